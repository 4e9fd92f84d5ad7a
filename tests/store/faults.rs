//! Disks that are full or fail: what is said, what is left, and that the same command completes afterwards.

use super::crash::World;
use super::*;

/// What is said of a full disk.
const FULL: &[&str] = &["No space left on device", "store gc"];

/// Mounts something on the store's place, which becomes the directory of whoever uses it.
fn mount_store(world: &World, who: As, args: &[&str]) -> Mounted {
    let store = world.project.store();
    fs::create_dir(store).unwrap();
    mount(args, store);
    let mounted = Mounted(store.to_path_buf());
    let owner = if who == As::User { common::USER } else { "root" };
    let own = Command::new("install").args(["-d", "-m", "700", "-o", owner]).arg(store).status().unwrap();
    assert!(own.success());
    mounted
}

/// A build that fails for want of something says so, and goes on when there is more of it. True if there was enough.
fn starved(world: &World, expected: &Value, messages: &[&str], what: &str, relief: impl FnOnce()) -> bool {
    let ran = common::ran(world.make().output().unwrap());
    if ran.status == Some(0) {
        return true;
    }
    assert_eq!(ran.status, Some(1), "{what}: {}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    for message in messages {
        assert!(ran.stderr.contains(message), "{what}: no `{message}` in:\n{}", ran.stderr);
    }
    relief();
    world.check_store(what);
    world.complete(expected);
    false
}

/// Builds with more and more of something that a tmpfs has little of, until it is enough.
fn squeeze(who: As, option: &str, plenty: &str, amounts: impl Iterator<Item = usize>, messages: &[&str]) {
    let world = World::new(who);
    let expected = world.undisturbed();
    for (starvations, amount) in amounts.enumerate() {
        world.forget(amount % 2 == 0);
        let option = format!("{option}{amount}");
        let _mounted = mount_store(&world, who, &["-t", "tmpfs", "-o", &option, "tmpfs"]);
        let relief = || mount(&["-o", &format!("remount,{plenty}")], world.project.store());
        if starved(&world, &expected, messages, &option, relief) {
            assert!(starvations >= 10, "{option} is enough");
            return;
        }
    }
    panic!("never enough");
}

#[test]
fn no_space_at_any_point_of_a_build() {
    squeeze(As::Root, "size=", "size=256m", (1..).map(|it| it * 1_300_000), FULL);
}

#[test]
fn no_inodes_at_any_point_of_a_build() {
    squeeze(As::User, "nr_inodes=", "nr_inodes=100000", (1..).map(|it| it * 30), FULL);
}

/// The disk below a file system is full, which that learns only when it writes back what it has promised to keep.
#[test]
fn errors_of_the_disk_at_any_point_of_a_build() {
    let world = World::new(As::Root);
    let expected = world.undisturbed();
    let below = world.project.path("below");
    fs::create_dir(&below).unwrap();
    let mut failures = 0;
    for megabytes in (1..).map(|it| it * 2) {
        world.forget(true);
        mount(&["-t", "tmpfs", "-o", "size=300m", "tmpfs"], &below);
        let _below = Mounted(below.clone());
        let image = Image::at(below.join("image"), "mkfs.ext4", 200 << 20);
        let used =
            fs::metadata(&image.0).map(|it| std::os::unix::fs::MetadataExt::blocks(&it) * 512).unwrap();
        mount(&["-o", &format!("remount,size={}", used + (megabytes << 20))], &below);
        let mounted = mount_store(&world, As::Root, &["-o", "loop", image.path()]);
        let ran = common::ran(world.make().output().unwrap());
        if ran.status == Some(0) {
            break;
        }
        failures += 1;
        let what = format!("{megabytes} MB: {}", ran.stderr);
        assert_eq!(ran.status, Some(1), "{what}");
        let told =
            ["Input/output error", "Read-only file system", "No space left", "Structure needs cleaning"];
        assert!(told.iter().any(|it| ran.stderr.contains(it)), "{what}");
        assert!(!ran.stderr.contains("panicked"), "{what}");
        // What was not written is lost now: as after a power cut.
        let _mounted = mounted;
        unmount(world.project.store(), &image);
        mount(&["-o", "remount,size=300m"], &below);
        let checked = Command::new("e2fsck").args(["-fy", image.path()]).output().unwrap();
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        mount(&["-o", "loop", image.path()], world.project.store());
        world.check_store(&what);
        world.complete(&expected);
    }
    assert!(failures >= 5, "{failures}");
}

/// A file system that knows that its disk gives back other bytes than it got, and refuses them.
#[test]
fn what_the_disk_cannot_read_is_bad_and_mended() {
    let world = World::new(As::Root);
    let expected = world.undisturbed();
    world.forget(true);
    let image = Image::at(world.project.path("image"), "mkfs.btrfs", 300 << 20);
    let _mounted = mount_store(&world, As::Root, &["-o", "loop", image.path()]);
    world.complete(&expected);
    let ruined = world.project.ok(&["store", "path", "second"]);
    let ruined = Path::new(ruined.trim()).join("srv/b").canonicalize().unwrap();
    let text = origin::body("/b");
    assert_eq!(fs::read_to_string(&ruined).unwrap(), text);
    unmount(world.project.store(), &image);
    let mut bytes = fs::read(&image.0).unwrap();
    let places: Vec<usize> = bytes
        .windows(4096)
        .enumerate()
        .step_by(4096)
        .filter(|(_, it)| text.as_bytes().starts_with(it))
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty());
    places.into_iter().for_each(|at| bytes[at + 100] ^= 1);
    fs::write(&image.0, bytes).unwrap();
    mount(&["-o", "loop", image.path()], world.project.store());
    let ran = world.project.run(&["store", "verify"]);
    assert_eq!(ran.status, Some(1));
    assert!(ran.stdout.contains("Input/output error") && ran.stdout.contains("/srv/b"), "{}", ran.stdout);
    world.complete(&expected);
}

/// System calls by which builds change the store.
const CALLS: &[&str] = &[
    "mkdir",
    "mkdirat",
    "rename",
    "renameat2",
    "fdatasync",
    "syncfs",
    "utimensat",
    "fchmodat",
    "chmod",
    "fchownat",
    "unlink",
    "unlinkat",
    "rmdir",
    "ftruncate",
    "link",
    "linkat",
    "copy_file_range",
    "statfs",
    "fstatfs",
];

/// Calls of one kind that fail, one in each build.
const MOST: usize = 8;

/// strace makes the n-th call of each thread and process fail, of the engine and of the sandbox.
#[test]
fn the_nth_system_call_of_a_build_fails() {
    let project = project(As::Root);
    let expected = realize(&project, "top");
    let (trace, mut failures) = (project.path("trace"), 0);
    for call in CALLS {
        for (nth, (error, told)) in
            [("EIO", "Input/output error"), ("ENOSPC", "No space left")].iter().cycle().take(MOST).enumerate()
        {
            let what = format!("{call} {} of each process: {error}", nth + 1);
            fs::remove_dir_all(project.store()).unwrap();
            let inner = project.command(&["realize", "-q", "top"]);
            let mut command = Command::new("strace");
            command.args(["-f", "-qq", "-e", "signal=none", "-e", &format!("trace={call}"), "-e"]);
            command.arg(format!("inject={call}:error={error}:when={}", nth + 1)).arg("-o").arg(&trace);
            command.arg(inner.get_program()).args(inner.get_args()).current_dir(project.path("")).env_clear();
            command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let ran = common::ran(command.output().expect("package strace is needed"));
            if !fs::read_to_string(&trace).unwrap().contains("(INJECTED)") {
                assert_eq!(ran.status, Some(0), "{what}: {}", ran.stderr);
                break;
            }
            assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
            if ran.status != Some(0) {
                failures += 1;
                assert_eq!(ran.status, Some(1), "{what}: {}", ran.stderr);
                assert!(ran.stderr.contains(told), "{what}: {}", ran.stderr);
            }
            verify(&project);
            assert_eq!(names(&project.store().join("tmp")), [""; 0], "{what}");
            assert_eq!(realize(&project, "top"), expected, "{what}");
            verify(&project);
        }
    }
    assert!(failures >= 10, "{failures}");
}
