//! Mounts of all kinds from the command line.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::common::{As, Project};
use crate::{BOTH, nothing_left, project};

fn id(who: As, path: &std::path::Path) -> (u32, u32, bool) {
    let meta = fs::metadata(path).unwrap();
    let own = fs::metadata("/proc/self").unwrap();
    let is_raptors = match who {
        As::Root => (meta.uid(), meta.gid()) == (own.uid(), own.gid()),
        As::User => meta.uid() != 0,
    };
    (meta.uid(), meta.gid(), is_raptors)
}

#[test]
fn host_paths_read_and_written() {
    for who in BOTH {
        let project = project(who);
        project.write(
            "m.rapt",
            "FROM base\nMOUNT --simple input /in\nMOUNT --simple --readonly data /data\n\
             MOUNT --simple --optional cache /cache\nMOUNT --file output /out/file\n\
             MOUNT --file --readonly --optional conf /etc/conf\nENTRYPOINT /bin/sh -c\n",
        );
        project.write("in/x", "in\n");
        project.write("data/x", "data\n");
        project.write("conf", "conf\n");
        let args = ["run", "-q", "-I", "in", "-M", "data", "data", "-O", "out"];
        let script = "cat /in/x /data/x; echo w > /in/w; chown 5:6 /in/w; mkdir /in/d; echo o > /out/file; \
            echo no 2>/dev/null > /data/no || echo read-only; test -e /cache || echo no cache; stat -c %u /in/x";
        let shown = project.ok(&[&args[..], &["m", script]].concat());
        assert_eq!(shown, "in\ndata\nread-only\nno cache\n0\n", "{who:?}");
        assert_eq!((project.read("in/w"), project.read("out")), ("w\n".into(), "o\n".into()));
        // What root inside makes is the caller's. Others are those of the container, shifted for a user.
        let (uid, gid, own) = id(who, &project.path("in/d"));
        assert!(own, "{uid}:{gid}");
        assert_eq!(id(who, &project.path("out")), (uid, gid, own));
        let written = id(who, &project.path("in/w"));
        match who {
            As::Root => assert_eq!((written.0, written.1), (5, 6)),
            As::User => assert!(written.0 > 65535 && written.1 > 65535, "{written:?}"),
        }
        let more = ["-C", "kept", "-M", "conf", "conf", "m", "cat /etc/conf; echo c > /cache/c"];
        assert_eq!(project.ok(&[&args[..], &more].concat()), "conf\n");
        assert_eq!(project.read("kept/c"), "c\n", "made on one level");
        let modes = ["-M", "conf", "conf", "m", "echo no > /etc/conf"];
        assert_ne!(project.run(&[&args[..], &modes].concat()).status, Some(0));
        assert_eq!(project.read("conf"), "conf\n");
        nothing_left(&project);
    }
}

#[test]
fn targets_as_layers_and_overlays() {
    for who in BOTH {
        let project = project(who);
        project.write("top.rapt", "FROM base\nWRITE \"top\\n\" /etc/top\nRUN rm /etc/passwd\n");
        project.write("m.rapt", "FROM base\nMOUNT --layers input /l\nMOUNT --overlay cache /o\n");
        let script = "ls /o/etc; ls /l | sed 's/-.*//'; touch /o/x 2>&1 | grep -o Read-only; grep -c top /l/raptor.json";
        let shown = project.ok(&["run", "-q", "-I", "top", "-I", "base", "-C", "top", "m", script]);
        assert_eq!(shown, "top\nbase\nraptor.json\ntop\nRead-only\n3\n", "{who:?}");
        project.fails(
            &["run", "-q", "-I", "top", "-C", "top", "-C", "base", "m", "x"],
            &["only a single source"],
        );
        project.fails(&["run", "-q", "-I", "nothere", "-C", "top", "m", "x"], &["`nothere` is not a module"]);
    }
}

#[test]
fn wrong_sources_are_found_before_anything_is_built() {
    for who in BOTH {
        let project = project(who);
        fs::create_dir(project.path("dir")).unwrap();
        symlink("nowhere", project.path("link")).unwrap();
        project.write("ro.rapt", "FROM bad\nMOUNT --simple --readonly input /in\nCMD true\n");
        let fails = |args: &[&str], message: &str| {
            let ran = project.fails(&[&["run", "-q"], args].concat(), &[message]);
            assert!(!ran.stderr.contains("step"), "{}", ran.stderr);
        };
        fails(&["bad", "-I", "no/dir", "-O", "o"], "does not exist, nor does its directory");
        fails(&["bad", "-I", "dir", "-O", "no/file"], "mount `output`: ");
        fails(&["bad", "-I", "dir", "-O", "dir"], "dir is a directory");
        fails(&["bad", "-I", "link", "-O", "o"], "link is a link to nowhere");
        fails(&["bad", "-I", "dir"], "required mount [output] not specified");
        fails(&["bad", "-I", "dir", "-I", "dir", "-O", "o"], "only a single source");
        fails(&["ro", "-I", "missing"], "missing does not exist");
        assert!(!project.path("missing").exists() && !project.path("o").exists());
        let ran = project.run(&["run", "-I", "dir", "base", "true"]);
        assert_eq!(ran.status, Some(0));
        assert!(ran.stderr.contains("warning: base has no mount `input`"), "{}", ran.stderr);
    }
}

fn nested(who: As) -> Project {
    let project = project(who);
    project.write("a/x", "a\n");
    project.write("b/x", "b\n");
    project.write("c", "c\n");
    project
}

#[test]
fn mounts_in_mounts_and_behind_links() {
    for who in BOTH {
        let project = nested(who);
        project.write(
            "m.rapt",
            "FROM base\nMKDIR /real\nRUN ln -s /real /link\nRUN ln -s ../../../etc /up\nRUN ln -s /gone /dangling\n\
             MOUNT --file file /link/sub/deep/c\nMOUNT --simple inner /link/sub\nMOUNT --simple outer /link\n\
             MOUNT --file --optional up /up/c\nMOUNT --simple --optional dangling /dangling\n\
             MOUNT --simple --optional wrong /bin/busybox\nMOUNT --simple --optional self /link/ro/x\n\
             MOUNT --simple --readonly --optional ro /link/ro\nENTRYPOINT /bin/sh -c\n",
        );
        let args = ["run", "-q", "-M", "outer", "a", "-M", "inner", "b", "-M", "file", "c"];
        let script = "cat /real/x /real/sub/x /real/sub/deep/c";
        assert_eq!(project.ok(&[&args[..], &["m", script]].concat()), "a\nb\nc\n", "{who:?}");
        assert_eq!(project.ok(&[&args[..], &["-M", "up", "c", "m", "cat /etc/c"]].concat()), "c\n");
        assert!(!std::path::Path::new("/etc/c").exists(), "links stay inside");
        let fails = |name: &str, source: &str, messages: &[&str]| {
            project.fails(&[&args[..], &["-M", name, source, "m", "true"]].concat(), messages);
        };
        fails("dangling", "a", &["cannot mount on /dangling", "is a link to /gone, which does not exist"]);
        fails("wrong", "a", &["cannot mount on /bin/busybox: it is a file, the source is a directory"]);
        fs::create_dir(project.path("empty")).unwrap();
        project.own();
        let ro = [&args[..], &["-M", "ro", "empty", "-M", "self", "a", "m", "true"]].concat();
        project.fails(&ro, &["cannot mount on /link/ro/x", "Read-only file system"]);
        nothing_left(&project);
    }
}

#[test]
fn the_device_that_runs_machines() {
    // Whether it is there depends on the host. Root inside is the caller, but not of the caller's groups.
    let script = "test -c /dev/kvm && echo there; exec 3<>/dev/kvm && echo opened";
    let device = fs::metadata("/dev/kvm");
    for who in BOTH {
        let project = project(who);
        let shown = project.run(&["run", "-q", "base", script]).stdout;
        assert_eq!(shown.contains("there"), device.is_ok(), "{shown}");
        let lets = device.as_ref().is_ok_and(|it| who == As::Root || it.mode() & 6 == 6);
        assert_eq!(shown.contains("opened"), lets, "{shown}");
        nothing_left(&project);
    }
}
