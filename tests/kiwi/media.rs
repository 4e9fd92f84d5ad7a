//! KIWI's live media of the system in examples/live, built once for all tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{As, Project, iso, scratch};

/// The job of the example in spec/stdlib/kiwi-live.md.
pub const EXAMPLE: &str = "my-system";

/// More jobs, all with the input `live`: name and parameters.
const JOBS: [(&str, &str); 4] = [
    (
        "dmsquash",
        "flags = \"dmsquash\", filesystem = \"squashfs\", mediacheck = true, timeout = 1, \
                  volid = \"My-live.1\", firmware = \"uefi\", kernelcmdline = \"no_timer_check rd.live.check quiet='$(x)'\"",
    ),
    (
        "small",
        "hybridpersistent = true, filesystem = \"squashfs\", rootfs_extra_mb = 0, \
               firmware = \"bios\", partition_table = \"msdos\", failsafe = false",
    ),
    (
        "xfs",
        "hybridpersistent = true, hybridpersistent_filesystem = \"xfs\", mediacheck = true, timeout = 1, \
             partition_table = \"msdos\", kernelcmdline = \"no_timer_check mediacheck=1\"",
    ),
    (
        "kept",
        "flags = \"dmsquash\", hybridpersistent = true, network = true, timeout = 1, volid = \"KEPT\", \
               kernelcmdline = \"no_timer_check\"",
    ),
];

/// The system of examples/live with these jobs.
pub fn project(who: As) -> Project {
    let project = iso::project(who);
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("spec/stdlib/kiwi-live.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let jobs = JOBS.map(|(name, with)| {
        format!(
            "[run.{name}]\ntarget = \"$std.kiwi-live\"\ninput = [\"live\"]\noutput = \"{name}.iso\"\n\
             with = {{ {with} }}\n"
        )
    });
    // Kernels of busy machines without KVM find that their timer does not work, unless they are told not to look.
    let example = format!("{example}with.kernelcmdline = \"no_timer_check\"\n");
    project.write("Raptor.toml", &format!("{example}{}", jobs.concat()));
    project
}

/// A project whose lock has what the media that are built already were made of.
pub fn locked_project(who: As) -> Project {
    let project = project(who);
    project.write("Raptor.lock", &fs::read_to_string(dir().join("Raptor.lock")).unwrap());
    project
}

fn dir() -> PathBuf {
    scratch().join("kiwi")
}

/// The medium of a job, built as root in the shared store.
pub fn built(job: &str) -> PathBuf {
    let medium = dir().join(format!("{job}.iso"));
    let guard = fs::File::create(scratch().join("kiwi-lock")).unwrap();
    rustix::fs::flock(&guard, rustix::fs::FlockOperation::LockExclusive).unwrap();
    if !medium.exists() {
        let project = project(As::Root);
        // What the ISO of the example was made of is not made again.
        let example = iso::built().with_file_name("Raptor.lock");
        let lock = [dir().join("Raptor.lock"), example].into_iter().find(|it| it.exists()).unwrap();
        project.write("Raptor.lock", &fs::read_to_string(lock).unwrap());
        project.ok(&["make", job]);
        fs::create_dir_all(dir()).unwrap();
        fs::copy(project.path("Raptor.lock"), dir().join("Raptor.lock")).unwrap();
        let temp = dir().join("new.iso");
        fs::copy(project.path(&format!("{job}.iso")), &temp).unwrap();
        fs::rename(temp, &medium).unwrap();
    }
    medium
}

/// What xorriso says when it is asked about a medium.
pub fn asked(medium: &Path, args: &[&str]) -> String {
    let output = Command::new("xorriso").arg("-indev").arg(medium).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Files of a medium, sorted.
pub fn files(medium: &Path) -> Vec<String> {
    let listed = asked(medium, &["-find", "/", "-type", "f"]);
    let mut files: Vec<String> = listed.lines().map(|it| it.trim_matches('\'').to_owned()).collect();
    files.sort_unstable();
    files
}

/// Copies a file from a medium to disk.
pub fn extract(medium: &Path, path: &str, to: &Path) {
    asked(medium, &["-osirrox", "on", "-extract", path, to.to_str().unwrap()]);
}

/// The content of a text file on a medium.
pub fn text(medium: &Path, path: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    extract(medium, path, &file);
    fs::read_to_string(file).unwrap()
}

/// A stick of so many bytes with a medium on it.
pub fn stick(medium: &Path, dir: &Path, size: u64) -> PathBuf {
    let stick = dir.join("stick");
    fs::copy(medium, &stick).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&stick).unwrap();
    assert!(file.metadata().unwrap().len() < size);
    file.set_len(size).unwrap();
    stick
}
