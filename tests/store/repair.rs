//! Flipped bits in everything that comes from the network, from images and out of jobs, and how it is mended.

use std::sync::atomic::Ordering;

use super::common::oci::{self, Layout};
use super::damage::flip;
use super::origin::{self, Origin, URL};
use super::*;

const MANIFEST: &str =
    "[run.report]\ntarget = \"tool\"\ninput = [\"net\", \"above\"]\noutput = \"out/report\"\n";

/// A project with a file of the lock, a file of its statement, a recorded request, an image and a job, all built.
fn built(who: As, origin: &Origin) -> (Project, Value) {
    let project =
        Project::busybox(who, &[("Raptor.toml", MANIFEST), ("above.rapt", "FROM oci:img\nWRITE \"x\" /x\n")]);
    let known = oci::sha256(origin::body("/known").as_bytes());
    project.write(
        "net.rapt",
        &format!(
            "FROM base\nMKDIR /srv\nFETCH {URL}/pinned /srv/\nFETCH --sha256 {known} {URL}/known /srv/\n\
             RUN /bin/busybox wget -q -O /srv/asked {URL}/asked\n"
        ),
    );
    project.write(
        "tool.rapt",
        "FROM base\nMOUNT --layers input /input\nMOUNT --file output /output/report\n\
         CMD \"cat /input/*/srv/asked /input/raptor.json > /output/report\"\n",
    );
    let file = |name, text| oci::file(name, text);
    let layers = [
        oci::gzip(&oci::tar(&[oci::dir("etc/"), file("etc/a", "a")])),
        oci::plain(oci::tar(&[file("b", "b")])),
    ];
    Layout::new(&project.path("img")).only(&layers);
    project.own();
    let made = make(&project, origin);
    (project, made)
}

fn make(project: &Project, origin: &Origin) -> Value {
    let ran = with(project, origin, &["make", "--json"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    serde_json::from_str::<Value>(&ran.stdout).unwrap()["jobs"].clone()
}

fn with(project: &Project, origin: &Origin, args: &[&str]) -> common::Ran {
    common::ran(origin.serves(&mut project.command(args)).output().unwrap())
}

/// Regular files of all trees.
fn stored(project: &Project) -> Vec<PathBuf> {
    let all = files(&project.store().join("trees")).into_iter();
    all.filter(|it| fs::symlink_metadata(it).unwrap().is_file()).collect()
}

#[test]
fn fetched_files_requests_images_and_jobs_are_mended() {
    for who in [As::Root, As::User] {
        let origin = Origin::start();
        let (project, made) = built(who, &origin);
        let files = stored(&project);
        assert!(files.len() >= 14, "{files:?}");
        for (idx, file) in files.iter().enumerate() {
            flip(file, 7 * idx + 3);
            let ran = with(&project, &origin, &["store", "repair"]);
            let what = format!("{}:\n{}{}", file.display(), ran.stdout, ran.stderr);
            assert_eq!(ran.status, Some(0), "{what}");
            assert!(ran.stdout.contains("mended ") && !ran.stdout.contains("lost "), "{what}");
            verify(&project);
        }
        // All at once: what is built again needs what was fetched again.
        stored(&project).iter().for_each(|file| flip(file, 1));
        let ran = with(&project, &origin, &["store", "repair"]);
        assert_eq!(ran.status, Some(0), "{}{}", ran.stdout, ran.stderr);
        verify(&project);
        assert_eq!(make(&project, &origin), made);
        assert_eq!(names(&project.store().join("partial")), [""; 0]);
        assert_eq!(names(&project.store().join("tmp")), [""; 0]);
    }
}

#[test]
fn what_cannot_be_fetched_again_is_lost_until_it_can() {
    let origin = Origin::start();
    let (project, made) = built(As::Root, &origin);
    for name in ["pinned", "known", "asked"] {
        let text = origin::body(&format!("/{name}"));
        let stored = stored(&project).into_iter();
        let bodies: Vec<PathBuf> = stored.filter(|it| fs::read(it).unwrap() == text.as_bytes()).collect();
        // The body itself is a tree.
        let body = bodies.iter().find(|it| it.parent() == Some(&project.store().join("trees"))).unwrap();
        let hash = body.file_name().unwrap().to_str().unwrap();
        flip(body, 77);
        let ran = with(&project, &origin, &["store", "repair", "--offline"]);
        assert_eq!(ran.status, Some(1), "{name}: {}", ran.stdout);
        let lost = |text: &str, reason: &str| {
            let line = text.lines().find(|it| it.starts_with(&format!("lost {hash}"))).unwrap_or_default();
            assert!(line.contains(&format!("{URL}/{name}")) && line.contains(reason), "{name}: {text}");
        };
        lost(&ran.stdout, "--offline");
        origin.changed.store(true, Ordering::Relaxed);
        let ran = with(&project, &origin, &["store", "repair"]);
        assert_eq!(ran.status, Some(1), "{name}: {}", ran.stdout);
        lost(&ran.stdout, "wrong ");
        assert!(!body.exists() || fs::read(body).unwrap() != text.as_bytes());
        origin.changed.store(false, Ordering::Relaxed);
        let ran = with(&project, &origin, &["store", "repair"]);
        assert_eq!(ran.status, Some(0), "{name}: {}{}", ran.stdout, ran.stderr);
        assert_eq!(fs::read(body).unwrap(), text.as_bytes());
        verify(&project);
    }
    assert_eq!(make(&project, &origin), made);
}
