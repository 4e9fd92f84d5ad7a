//! What is pulled, pinned and told.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::between::{Between, Fate};
use super::common::oci::{file, gzip, sha256, tar, varied};
use super::common::trees::{layers, list, merged, umoci};
use super::common::{As, Project};
use super::server::{Kind, PASSWORD, Registry, USER};
use super::{command, fails, project, realize, run, small};

/// A `config.json` with the password of a guarded registry.
fn credentials(host: &str) -> String {
    use base64::Engine;
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    serde_json::json!({ "auths": { host: { "auth": auth } } }).to_string()
}

#[test]
fn pulls_what_umoci_unpacks() {
    let root = project(As::Root, &varied());
    let registry = Registry::start(&root, Kind::Guarded);
    registry.push(&root, "oci:img:latest", "team/app:1.0_a");
    let text = format!("FROM docker://{}/team/app:1.0_a\n", registry.host);
    let prepare = |project: &Project| {
        project.write("t.rapt", &text);
        project.write("docker/config.json", &credentials(&registry.host));
        fs::write(project.path("ca.pem"), root.read("ca.pem")).unwrap();
    };
    let pull = |project: &Project, args: &[&str]| {
        let mut command = command(project, "", args);
        command.env("DOCKER_CONFIG", project.path("docker")).env("SSL_CERT_FILE", project.path("ca.pem"));
        super::ran(command.output().unwrap())
    };
    let hashes = |project: &Project| -> Vec<_> {
        layers(project, "t").iter().map(|it| it.file_name().unwrap().to_owned()).collect()
    };
    prepare(&root);
    let ran = pull(&root, &["build", "t"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let lock = root.read("Raptor.lock");
    assert!(!lock.contains(PASSWORD) && !ran.stderr.contains(PASSWORD), "{lock}{}", ran.stderr);

    // Entry by entry, as another tool has it that asks the same registry.
    let copied = std::process::Command::new("skopeo")
        .args(["--insecure-policy", "copy", "--quiet", "--src-tls-verify=false", "--override-arch=amd64"])
        .arg(format!("--src-creds={USER}:{PASSWORD}"))
        .args([&format!("docker://{}/team/app:1.0_a", registry.host), "oci:copy:latest"])
        .current_dir(root.path(""))
        .status();
    assert!(copied.unwrap().success());
    let mut expected = list(&umoci(&root, "copy:latest"));
    let found = merged(&layers(&root, "t"), list);
    // Directories without an entry of their own get the time of unpacking there, and that of the image here.
    for name in ["", "implicit", "implicit/parents"] {
        let line = expected.get_mut(name).unwrap();
        *line = line.replace(line.split(' ').nth(3).unwrap(), "1706933106");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, line) in &expected {
        assert_eq!(found.get(name), Some(line), "{name}");
    }

    // Everybody gets the same, and what comes from a file is not unpacked again.
    let user = Project::of(As::User, &[("Raptor.lock", &lock)]).with_empty_store();
    prepare(&user);
    let ran = pull(&user, &["build", "--locked", "t"]);
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    assert_eq!(hashes(&user), hashes(&root));
    assert_eq!(user.read("Raptor.lock"), lock);
    root.write("t.rapt", "FROM oci:copy\n");
    let report: Value = serde_json::from_str(&root.ok(&["build", "--json", "t"])).unwrap();
    assert_eq!(report["built"], 0, "{report}");

    // The registry is not trusted without its authority, nor by chance because it is on this machine.
    let other = Project::of(As::Root, &[("t.rapt", &text)]).with_empty_store();
    fails(&other, "", &["build", "t"], &["error[E0602]", "t.rapt:1:1", "certificate"]);
    assert!(!other.path("Raptor.lock").exists());
}

#[test]
fn the_lock_decides() {
    let project = project(As::Root, &small());
    let registry = Registry::start(&project, Kind::Plain);
    let host = &*registry.host;
    registry.push(&project, "oci:img:latest", "app:1");
    let text = format!("FROM docker://{host}/app:1\n");
    project.write("t.rapt", &text);
    // Nothing may be asked for yet.
    for option in ["--locked", "--offline"] {
        let messages = ["error[E0309]", "t.rapt:1:1", "Raptor.lock", &*format!("docker://{host}/app:1")];
        fails(&project, host, &["build", option, "t"], &messages);
    }
    // Without the setting there must be TLS.
    fails(&project, "", &["build", "t"], &["error[E0602]", "cannot pin docker://"]);
    let first = realize(&project, host, &["t"]);
    let lock = project.read("Raptor.lock");

    // The tag moves; the pin does not, until somebody asks for that.
    let layout = super::Layout::new(&project.path("other"));
    layout.only(&[gzip(&tar(&[file("etc/hello", "other")]))]);
    registry.push(&project, "oci:other:latest", "app:1");
    assert_eq!(realize(&project, host, &["t"]), first);
    let again = Project::new(&[("t.rapt", &text), ("Raptor.lock", &lock)]).with_empty_store();
    fails(&again, host, &["build", "--offline", "t"], &["--offline", "docker://", "t.rapt:1:1"]);
    assert_eq!(realize(&again, host, &["--locked", "t"]).file_name(), first.file_name());
    let updated = run(&project, host, &["update", &format!("docker://{host}/app:1")]);
    assert_eq!(updated.status, Some(0), "{}", updated.stderr);
    let other = realize(&project, host, &["t"]);
    assert_ne!(other, first);
    assert_eq!(fs::read_to_string(other.join("etc/hello")).unwrap(), "other");

    // By digest, alone and with a tag, which counts for nothing then.
    let digest = lock.split("digest = \"").nth(1).unwrap().split('"').next().unwrap();
    for reference in [format!("app@{digest}"), format!("app:1@{digest}"), format!("app:gone@{digest}")] {
        project.write("t.rapt", &format!("FROM docker://{host}/{reference}\n"));
        assert_eq!(realize(&project, host, &["t"]), first, "{reference}");
    }
    let zeros = format!("digest = \"sha256:{}\"", "0".repeat(64));
    let forged = project.read("Raptor.lock").replace(&format!("digest = \"{digest}\""), &zeros);
    project.write("Raptor.lock", &forged);
    fails(&project, host, &["build", "t"], &["error[E0310]", "pins sha256:000", "t.rapt:1:1"]);
    // With everything here, no registry is needed.
    project.write("Raptor.lock", &lock);
    project.write("t.rapt", &text);
    drop(registry);
    assert_eq!(realize(&project, "", &["--offline", "t"]), first);
}

#[test]
fn what_the_image_says_is_shown_and_does_not_apply() {
    let project = project(As::Root, &small());
    let registry = Registry::start(&project, Kind::Plain);
    registry.push(&project, "oci:img:latest", "app:1");
    project.write("t.rapt", &format!("FROM docker://{}/app:1\n", registry.host));
    let setting = format!("[raptor]\ninsecure-registries = [\"{}\"]\n", registry.host);
    project.write("Raptor.toml", &setting);
    let ran = fails(&project, "", &["run", "t"], &["neither CMD", "says that it runs: CMD \"nothing\""]);
    assert!(ran.stderr.contains("docker://"), "{}", ran.stderr);
    let ran = run(&project, "", &["show", "t"]);
    for line in ["app-1-1", "app-1-2", "ENV PATH=/nowhere", "CMD \"nothing\"", "WORKDIR /nowhere"] {
        assert!(ran.stdout.contains(line), "no `{line}` in:\n{}", ran.stdout);
    }
    let shown: Value = serde_json::from_str(&run(&project, "", &["show", "--json", "t"]).stdout).unwrap();
    let image = &shown["targets"][0]["image"];
    assert_eq!(image["cmd"], serde_json::json!(["nothing"]), "{shown}");
    assert_eq!(image["workdir"], "/nowhere");
    // The same of a file, where nothing is fetched.
    project.write("t.rapt", "FROM oci:img\n");
    let shown: Value = serde_json::from_str(&project.ok(&["show", "--json", "t"])).unwrap();
    assert_eq!(shown["targets"][0]["image"]["cmd"], serde_json::json!(["nothing"]), "{shown}");
}

#[test]
fn killed_and_interrupted_pulls_go_on() {
    let layer = small().remove(0);
    let (digest, big) = (sha256(&layer.stored), layer.stored.len());
    let project = project(As::Root, &[layer]);
    let registry = Registry::start(&project, Kind::Plain);
    registry.push(&project, "oci:img:latest", "app:1");
    let between = Between::start(&registry.host, move |it, before| match before {
        _ if !it.path.ends_with(&digest) => Fate::Pass,
        0 => Fate::Stall(big / 2),
        1 => Fate::Stall(1000),
        _ => Fate::Pass,
    });
    let host = &*between.host;
    project.write("t.rapt", &format!("FROM docker://{host}/app:1\n"));
    // Until so much of the layer is on disk, and nothing more comes.
    let arrived = |len: usize| {
        let begin = Instant::now();
        let partial = project.store().join("partial");
        let longest = || -> Option<u64> {
            let entries = fs::read_dir(&partial).ok()?.flatten();
            entries.filter_map(|it| Some(it.metadata().ok()?.len())).max()
        };
        while longest().unwrap_or(0) < len as u64 {
            assert!(begin.elapsed() < Duration::from_secs(100), "{:?}", between.seen());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let mut killed = command(&project, host, &["build", "t"]).spawn().unwrap();
    arrived(big / 2);
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().signal(), Some(9));
    // A server that is silent does not keep us from ending.
    let mut interrupted = command(&project, host, &["build", "t"]).spawn().unwrap();
    arrived(big / 2 + 1000);
    let pid = rustix::process::Pid::from_child(&interrupted);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(interrupted.wait().unwrap().code(), Some(130));
    let top = realize(&project, host, &["t"]);
    assert_eq!(fs::metadata(top.join("noise")).unwrap().len(), 300_000);
    let ranges: Vec<_> =
        between.seen().iter().filter_map(|it| it.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [format!("bytes={}-", big / 2), format!("bytes={}-", big / 2 + 1000)]);
}
