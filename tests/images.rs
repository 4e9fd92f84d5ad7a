//! FROM image files, end to end: what is unpacked, compared with another tool, and what is refused.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::oci::{
    Layer, Layout, dir, file, gzip, hardlink, named, plain, special, symlink, tar, varied, zstd,
};
use common::trees::{layers, list, merged, umoci};
use common::{As, Project};
use serde_json::json;
use tar::EntryType;

/// A project with an image `img` and a target `t` on it.
fn project(who: As, layers: &[Layer]) -> Project {
    let project = Project::of(who, &[("t.rapt", "FROM oci:img\n")]).with_empty_store();
    Layout::new(&project.path("img")).only(layers);
    project.own();
    project
}

#[test]
fn unpacks_what_umoci_unpacks() {
    let project = project(As::Root, &varied());
    let mut expected = list(&umoci(&project, "img:latest"));
    let found = merged(&layers(&project, "t"), list);
    // Directories without an entry of their own get the time of unpacking there, and that of the image here; so does
    // the root, which in a stack of layers is the one of the topmost.
    for name in ["", "implicit", "implicit/parents"] {
        let line = expected.get_mut(name).unwrap();
        *line = line.replace(line.split(' ').nth(3).unwrap(), "1706933106");
    }
    for (name, line) in &expected {
        assert_eq!(found.get(name), Some(line), "{name}");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    assert!(found["usr/bin/ping"].contains("security.capability"), "{}", found["usr/bin/ping"]);
    assert!(found["etc/gone"].contains("back") && !found.contains_key("etc/opaque/sub"));
}

#[test]
fn root_users_and_every_format_give_the_same_layers() {
    let names = |paths: Vec<PathBuf>| -> Vec<_> {
        paths.iter().map(|it| it.file_name().unwrap().to_owned()).collect()
    };
    let root = project(As::Root, &varied());
    let mut compressed_otherwise = varied();
    compressed_otherwise[1] = zstd(&varied()[1].stored);
    let expected = names(layers(&root, "t"));
    assert_eq!(expected.len(), 4);
    assert_eq!(names(layers(&project(As::User, &varied()), "t")), expected);
    assert_eq!(names(layers(&project(As::Root, &compressed_otherwise), "t")), expected);
    // The same image in other wrappings is the same image, and nothing is unpacked twice.
    let dir = root.path("");
    let skopeo = |to: &str| {
        let status = Command::new("skopeo")
            .args(["--insecure-policy", "copy", "--quiet", "oci:img:latest", to])
            .current_dir(&dir)
            .status()
            .expect("package skopeo is needed");
        assert!(status.success());
    };
    skopeo("oci-archive:o.tar:name");
    skopeo("docker-archive:d.tar:origin.example/img:1.0");
    for from in [
        "oci:img:latest",
        "oci-archive:o.tar",
        "oci-archive:o.tar:name",
        "docker-archive:d.tar:origin.example/img:1.0",
    ] {
        root.write("t.rapt", &format!("FROM {from}\n"));
        let report: serde_json::Value = serde_json::from_str(&root.ok(&["build", "--json", "t"])).unwrap();
        let imported = if from.contains("archive:") { 1 } else { 0 };
        assert!(report["built"].as_u64().unwrap() <= imported, "{from}: {report}");
        assert_eq!(names(layers(&root, "t")), expected, "{from}");
        root.ok(&["check", "t"]);
    }
}

#[test]
fn targets_build_and_run_on_images() {
    let busybox = fs::read("/bin/busybox").expect("package busybox-static is needed");
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    builder.append_data(&mut header, "bin/busybox", &busybox[..]).unwrap();
    let shell = builder.into_inner().unwrap();
    let project = project(As::Root, &[gzip(&shell), plain(tar(&[symlink("bin/sh", "busybox")]))]);
    project.write(
        "t.rapt",
        "FROM oci:img\nMKDIR /srv\nRUN sh -c \"echo $PATH:$PWD > /srv/env\"\nCMD \"busybox cat /srv/env; exit 3\"\n",
    );
    let top = layers(&project, "t").pop().unwrap();
    // Settings of the image do not apply.
    let env = fs::read_to_string(top.join("srv/env")).unwrap();
    assert!(env.starts_with("/usr/local/sbin:") && env.ends_with(":/\n"), "{env}");
    let ran = project.run(&["run", "t"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (Some(3), &*env), "{}", ran.stderr);
}

#[test]
fn the_right_image_is_chosen() {
    let project = Project::new(&[]).with_empty_store();
    let layout = Layout::new(&project.path("img"));
    let image = |architecture, text| layout.image(architecture, &[plain(tar(&[file("which", text)]))]);
    let (amd, arm, other) = (image("amd64", "amd"), image("arm64", "arm"), image("amd64", "other"));
    let attestation = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 2,
        "digest": format!("sha256:{}", "0".repeat(64)), "platform": { "os": "unknown", "architecture": "unknown" },
    });
    let both = layout.nested_index(&[arm.clone(), attestation, amd.clone()]);
    let arm_only = layout.nested_index(std::slice::from_ref(&arm));
    let mut unlabelled = arm.clone();
    unlabelled.as_object_mut().unwrap().remove("platform");
    let digest = amd["digest"].as_str().unwrap();
    for (index, from, expected) in [
        (vec![named(both.clone(), "1.0")], "oci:img", "amd"),
        (vec![named(both.clone(), "1.0")], "oci:img:1.0", "amd"),
        (vec![both.clone()], "oci:img", "amd"),
        (vec![arm.clone(), amd.clone()], "oci:img", "amd"),
        (vec![named(amd.clone(), "a"), named(other.clone(), "b")], "oci:img:b", "other"),
        (vec![named(amd.clone(), "a"), named(other.clone(), "b")], &*format!("oci:img:{digest}"), "amd"),
        (vec![named(amd.clone(), "a"), named(other.clone(), "b")], "oci:img", "several images in it: a, b"),
        (
            vec![named(amd.clone(), "a"), named(other.clone(), "b")],
            "oci:img:c",
            "no image `c`; there is: a, b",
        ),
        (vec![amd.clone(), other.clone()], "oci:img", "several images in it: sha256:"),
        (vec![arm_only], "oci:img", "no image for linux/amd64; there is: linux/arm64"),
        (vec![unlabelled], "oci:img", "no image for linux/amd64; there is: linux/arm64"),
        (vec![], "oci:img", "there is no image in it"),
        (vec![amd.clone()], "oci-archive:img", "this is a directory"),
        (vec![amd.clone()], "oci:t.rapt", "this is a file"),
        (vec![amd.clone()], "oci:nowhere", "no such file"),
        (vec![amd.clone()], "oci-archive:t.rapt", "not a whole tar file"),
    ] {
        layout.index(&index);
        project.write("t.rapt", &format!("\nFROM {from}\n"));
        match expected.len() > 5 {
            true => {
                project.fails(&["check", "t"], &["error[E0310]", expected, "t.rapt:2:1"]);
            }
            false => {
                let layers = layers(&project, "t");
                assert_eq!(fs::read_to_string(layers[0].join("which")).unwrap(), expected, "{from}");
            }
        }
    }
}

#[test]
fn hostile_layers_are_refused() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    fs::write(&target, "untouched").unwrap();
    let host = target.to_str().unwrap();
    let mut bomb = tar(&[]);
    let mut long = tar::Header::new_gnu();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(200 << 20);
    long.set_cksum();
    bomb.splice(0..0, [long.as_bytes(), &vec![b'a'; 200 << 20][..]].concat());
    let mut xz = Vec::new();
    std::io::Read::read_to_end(&mut liblzma::read::XzEncoder::new(&tar(&[])[..], 1), &mut xz).unwrap();
    let lie = Layer { diff_id: "0".repeat(64), ..gzip(&tar(&[file("a", "a")])) };
    let mut cut = gzip(&tar(&[file("a", &"a".repeat(9000))]));
    cut.stored.truncate(60);
    let whole = tar(&[file("a", "a")]);
    let host_dir = outside.path().to_str().unwrap();
    for (layers, expected) in [
        (vec![plain(tar(&[symlink("a", host_dir), file("a/target", "reached")]))], "untouched"),
        (vec![plain(tar(&[symlink("a", host_dir)])), plain(tar(&[file("a/.wh.target", "")]))], "untouched"),
        (
            vec![plain(tar(&[symlink("a", &format!("/proc/self/root/../..{host}")), file("a", "reached")]))],
            "untouched",
        ),
        (vec![plain(tar(&[symlink("tmp", "var/tmp")]))], "/tmp must be a directory"),
        (vec![plain(tar(&[file("../x", "")]))], "bad path ../x"),
        (vec![plain(tar(&[file("a/../../x", "")]))], "bad path a/../../x"),
        (vec![plain(tar(&[file(host, "")]))], "untouched"),
        (vec![plain(tar(&[file(host, ""), hardlink("a", host)]))], "untouched"),
        (vec![plain(tar(&[file("/../x", "")]))], "bad path ../x"),
        (
            vec![plain(tar(&[file("a/.wh...", "")])), plain(tar(&[dir("a/"), file("a/.wh...", "")]))],
            "bad whiteout",
        ),
        (vec![plain(tar(&[dir("a/"), file("a/.wh.", "")]))], "bad whiteout"),
        (vec![plain(tar(&[hardlink("a", "../../x")]))], "bad path ../../x"),
        (vec![plain(tar(&[hardlink("a", "none")]))], "none"),
        (vec![plain(tar(&[symlink("a", host), hardlink("a/b", "a")]))], "untouched"),
        (vec![plain(tar(&[file("a", ""), file("a/b", "")]))], "/a is no directory"),
        (vec![plain(tar(&[special("null", EntryType::Char)]))], "/null is a device"),
        (vec![gzip(&bomb)], "more bytes than an honest archive has here"),
        (vec![Layer { diff_id: common::oci::sha256(&xz), ..plain(xz.clone()) }], "compressed with xz"),
        (vec![lie], "wrong content: expected sha256 000000"),
        (vec![cut], "layer sha256:"),
        (vec![plain(whole[..whole.len() - 1024 - 600].to_vec())], "layer sha256:"),
    ] {
        let project = project(As::Root, &layers);
        if expected == "untouched" {
            // A link out of the image leads to a place in it, or nowhere.
            project.run(&["build", "t"]);
        } else {
            project.fails(&["build", "t"], &["error[E0601]", expected, "t.rapt:1:1"]);
        }
        assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0, "{expected}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "untouched");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    }
}

#[test]
fn damaged_images_are_refused() {
    let layers = [gzip(&tar(&[file("a", "a")]))];
    let digest = common::oci::sha256(&layers[0].stored);
    let damage = |path: &Path| {
        fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b" ").unwrap();
    };
    let project = project(As::Root, &layers);
    let layout = Layout::new(&project.path("img"));
    damage(&layout.blob_path(&digest));
    project.fails(&["build", "t"], &["error[E0601]", "layer sha256", "t.rapt:1:1"]);
    fs::remove_file(layout.blob_path(&digest)).unwrap();
    project.fails(&["check", "t"], &["error[E0310]", &digest, "t.rapt:1:1"]);
    for entry in fs::read_dir(project.path("img/blobs/sha256")).unwrap() {
        damage(&entry.unwrap().path());
        project.fails(&["check", "t"], &["error[E0310]", "t.rapt:1:1"]);
    }
    for index in ["{", "[]", "{\"schemaVersion\":2,\"manifests\":[{}]}", "\u{0}"] {
        fs::write(project.path("img/index.json"), index).unwrap();
        project.fails(&["check", "t"], &["error[E0310]", "index.json does not parse"]);
    }
    fs::File::create(project.path("img/index.json")).unwrap().set_len(1 << 40).unwrap();
    project.fails(&["check", "t"], &["error[E0310]", "4194304 is the most"]);
}
