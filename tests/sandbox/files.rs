//! File steps, packages, mounts and outputs.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use raptor::sandbox::{self, Attrs, CopySource, Error, Mount, MountSource, Step};

use crate::world::{World, list, message, sh, write};

#[test]
fn file_steps() {
    let world = World::new();
    let source = world.path("trees/src");
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("sub/x"), "x").unwrap();
    fs::set_permissions(source.join("sub/x"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", source.join("link")).unwrap();
    fs::write(world.path("trees/one"), "1").unwrap();
    let from = |tree: &str, name: &str| CopySource { tree: tree.into(), name: name.into() };
    let copy = |sources, dest: &str| Step::Copy { sources, dest: dest.into(), attrs: Attrs::default() };
    let attrs = Attrs { mode: Some(0o4755), user: Some("user".into()), group: Some("50".into()) };
    // A link inside leads to a place inside.
    let steps = vec![
        sh("ln -s /etc/absolute /etc/link"),
        write("/etc/link", "through"),
        Step::Mkdir { path: "/a/b/c".into(), parents: true, attrs: attrs.clone() },
        Step::Mkdir { path: "/etc".into(), parents: true, attrs: Attrs::default() },
        copy(vec![from("src", "src")], "/a/copy"),
        copy(vec![from("one", "one.txt"), from("one", "two.txt")], "/a/copy/sub/"),
        copy(vec![from("one", "n")], "/a/b"),
        Step::Copy { sources: vec![from("one", "n")], dest: "/a/named".into(), attrs },
        sh("stat -c '%n %u:%g %a' /a/named /a/b /a/b/c /a/copy/sub/x; cat /a/named /a/b/n; ls /a/copy/sub"),
    ];
    let report = world.run(&world.request(steps)).unwrap();
    assert_eq!(
        world.output.lock().unwrap().split_whitespace().collect::<Vec<_>>().join(" "),
        "/a/named 1000:50 4755 /a/b 0:0 755 /a/b/c 1000:50 4755 /a/copy/sub/x 0:0 755 11one.txt two.txt x"
    );
    let upper = world.upper();
    for line in ["etc/absolute f644", "a/copy/link l0", "a/copy/sub/x f755", "a/named f4755", "a/b/c d4755"] {
        assert!(upper.contains(&line.to_string()), "{line} not in {upper:?}");
    }
    assert_eq!(report.layer.unwrap(), sandbox::hash(&world.launcher, &world.path("work/upper")).unwrap());
    assert!(
        message(world.run(&world.request(vec![copy(vec![from("one", "1")], "/no/")])))
            .contains("no such dir")
    );
}

/// A package file with these entries: path, kind, mode, content or link target.
fn deb(path: &Path, compression: &str, entries: &[(&str, tar::EntryType, u32, &str)]) {
    let mut data = tar::Builder::new(Vec::new());
    for (name, kind, mode, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_uid(0);
        header.set_gid(50);
        header.set_mtime(1_000_000_000);
        header.set_size(0);
        // Written into the header as they are: the library refuses bad paths.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        match kind.is_hard_link() || kind.is_symlink() {
            true => header.as_old_mut().linkname[..text.len()].copy_from_slice(text.as_bytes()),
            false => header.set_size(text.len() as u64),
        }
        header.set_cksum();
        let content = if kind.is_file() { text.as_bytes() } else { b"" };
        data.append(&header, content).unwrap();
    }
    let data = data.into_inner().unwrap();
    let data = match compression {
        ".xz" => {
            let mut out = Vec::new();
            liblzma::read::XzEncoder::new(&data[..], 1).read_to_end(&mut out).unwrap();
            out
        }
        ".gz" => {
            let mut out = Vec::new();
            flate2::read::GzEncoder::new(&data[..], flate2::Compression::fast())
                .read_to_end(&mut out)
                .unwrap();
            out
        }
        ".zst" => zstd::encode_all(&data[..], 1).unwrap(),
        _ => data,
    };
    let mut archive = ar::Builder::new(fs::File::create(path).unwrap());
    for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", b""), ("data.tar", &data)] {
        let name = if name == "data.tar" { format!("{name}{compression}") } else { name.into() };
        archive.append(&ar::Header::new(name.into_bytes(), content.len() as u64), content).unwrap();
    }
}

#[test]
fn debian_packages() {
    use tar::EntryType::{Char, Directory as Dir, Link, Regular as File, Symlink};
    let world = World::new();
    let unpack = |debs: &[&str]| {
        let mut request =
            world.request(vec![Step::UnpackDebs { debs: debs.iter().map(|deb| deb.to_string()).collect() }]);
        request.lower.clear();
        world.run(&request)
    };
    let path = |name: &str| world.path("trees").join(name);
    deb(
        &path("a.deb"),
        ".xz",
        &[
            ("./", Dir, 0o755, ""),
            ("./usr/", Dir, 0o755, ""),
            ("./usr/lib/", Dir, 0o755, ""),
            ("./lib", Symlink, 0o777, "usr/lib"),
            ("./proc/", Dir, 0o555, ""),
            ("./tmp/", Dir, 0o1777, ""),
            ("./usr/lib/x", File, 0o4755, "x"),
            ("./usr/lib/y", Link, 0o4755, "./usr/lib/x"),
            ("./replaced", File, 0o644, "old"),
        ],
    );
    deb(
        &path("b.deb"),
        ".gz",
        // Directories of an earlier package stay as they are, also behind a link.
        &[("./lib/", Dir, 0o700, ""), ("./lib/z", File, 0o600, "z"), ("./replaced", File, 0o644, "new")],
    );
    deb(&path("c.deb"), ".zst", &[("./c/", Dir, 0o2775, ""), ("./c/c", File, 0o644, "c")]);
    deb(&path("d.deb"), "", &[("d/e/f", File, 0o644, "f")]);
    unpack(&["a.deb", "b.deb", "c.deb", "d.deb"]).unwrap();
    let expected = [
        "c d2775",
        "c/c f644",
        "d d755",
        "d/e d755",
        "d/e/f f644",
        "lib l0",
        "proc d555",
        "replaced f644",
        "tmp d1777",
        "usr d755",
        "usr/lib d755",
        "usr/lib/x f4755",
        "usr/lib/y f4755",
        "usr/lib/z f600",
    ];
    assert_eq!(world.upper(), expected);
    let meta = |name: &str| fs::symlink_metadata(world.path("work/upper").join(name)).unwrap();
    assert_eq!(meta("usr/lib/x").ino(), meta("usr/lib/y").ino());
    for name in ["usr/lib/x", "c", "c/c", "lib"] {
        assert_eq!(meta(name).mtime(), 1_000_000_000, "{name}");
    }
    assert_eq!(fs::read_to_string(world.path("work/upper/replaced")).unwrap(), "new");

    deb(&path("up.deb"), "", &[("./../x", File, 0o644, "")]);
    deb(&path("device.deb"), "", &[("./null", Char, 0o666, "")]);
    fs::write(path("no.deb"), "no").unwrap();
    for (name, why) in [
        ("up.deb", "package up.deb: bad path ./../x"),
        ("device.deb", "package device.deb: /null is a device"),
        ("no.deb", "package no.deb: not a Debian package"),
        ("none.deb", "none.deb"),
    ] {
        let message = message(unpack(&["c.deb", name, "d.deb"]));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn mounts_and_outputs() {
    let world = World::new();
    fs::create_dir_all(world.path("trees/top/etc/dir")).unwrap();
    fs::write(world.path("trees/top/etc/dir/z"), "z").unwrap();
    fs::write(world.path("trees/file"), "file").unwrap();
    fs::create_dir(world.path("host")).unwrap();
    let mount = |dest: &str, source| Mount { dest: dest.into(), source };
    let output = |name: &str, file| MountSource::Output { name: name.into(), file };
    let request = |script: &str| {
        let mut request = world.request(vec![sh(script)]);
        request.mounts = vec![
            mount("/input", MountSource::Tmpfs),
            mount("/input/base", MountSource::Tree("base".into())),
            mount("/input/file", MountSource::Tree("file".into())),
            mount("/merged", MountSource::Overlay(vec!["base".into(), "top".into()])),
            mount("/text", MountSource::Text("text".into())),
            mount("/cache", MountSource::Scratch),
            mount("/out/file", output("file", true)),
            mount("/out/dir", output("dir", false)),
            mount("/host", MountSource::Host { path: world.path("host"), readonly: false }),
            mount("/host-ro", MountSource::Host { path: world.path("host"), readonly: true }),
        ];
        request.run_files = [("apt/conf".to_string(), "conf".to_string())].into();
        request
    };
    let script = "cat /input/file /text /run/raptor/apt/conf; ls /input/base/etc/dir /merged/etc/dir; \
                  echo o > /out/file; mkdir /out/dir/d; touch /cache/x; echo h > /host/h; cat /host-ro/h; \
                  ! touch /host-ro/x /input/base/x /merged/x /text 2>/dev/null";
    let report =
        world.run(&request(script)).unwrap_or_else(|err| panic!("{err} {}", world.output.lock().unwrap()));
    let out = world.output.lock().unwrap().clone();
    assert_eq!(out, "filetextconf/input/base/etc/dir:\na\nb\n\n/merged/etc/dir:\na\nb\nz\nh\n");
    assert_eq!(world.upper(), [""; 0]);
    assert_eq!(report.outputs.keys().collect::<Vec<_>>(), ["dir", "file"]);
    assert_eq!(list(&world.path("work/out")), ["dir d755", "dir/d d755", "file f644"]);
    assert_eq!(fs::read_to_string(world.path("work/out/file")).unwrap(), "o\n");
    assert_eq!(fs::read_to_string(world.path("host/h")).unwrap(), "h\n");
    assert_eq!(
        fs::metadata(world.path("host/h")).unwrap().uid(),
        fs::metadata(world.path("host")).unwrap().uid()
    );
    assert!(!world.path("work/scratch").exists() && !world.path("work/work").exists());
    assert!(matches!(world.run(&request("true")), Err(Error::EmptyOutput(name)) if name == "file"));
}
