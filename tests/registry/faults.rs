//! What networks and servers do wrong: it passes, or it is told, and nothing wrong is ever kept.

use std::fs;
use std::net::TcpListener;

use serde_json::{Value, json};

use super::between::{Between, Fate, Seen};
use super::common::oci::sha256;
use super::common::{As, Project};
use super::server::{Kind, Registry};
use super::{fails, project, realize, small};

type Decide = Box<dyn Fn(&Seen, usize) -> Fate + Send + Sync>;

#[test]
fn what_passes_is_waited_for() {
    let source = project(As::Root, &small());
    let registry = Registry::start(&source, Kind::Plain);
    registry.push(&source, "oci:img:latest", "app:1");
    let busy = |status| {
        move |_: &Seen, before| match before {
            0 => Fate::Answer(status, "Retry-After: 0\r\n".into(), b"busy".to_vec()),
            _ => Fate::Pass,
        }
    };
    let fates: [(&str, Decide); 4] = [
        ("429", Box::new(busy(429))),
        ("503", Box::new(busy(503))),
        (
            "cut",
            // At places that nobody chose: the registry's digests decide.
            Box::new(|it: &Seen, before| match before {
                0 => Fate::Cut(usize::from(it.path.as_bytes()[it.path.len() - 1]) % 16),
                1 | 2 if it.is_blob() && it.header("range").is_some() => {
                    Fate::Cut(usize::from(it.path.as_bytes()[it.path.len() - 2]) % 7)
                }
                _ => Fate::Pass,
            }),
        ),
        (
            "cut late",
            Box::new(|it: &Seen, before| match (it.is_blob(), before) {
                (true, 0) => Fate::Cut(100),
                _ => Fate::Pass,
            }),
        ),
    ];
    let mut expected = None;
    for (name, decide) in fates {
        let between = Between::start(&registry.host, decide);
        let text = format!("FROM docker://{}/app:1\n", between.host);
        let project = Project::new(&[("t.rapt", &text)]).with_empty_store();
        let top = realize(&project, &between.host, &["t"]).file_name().unwrap().to_owned();
        assert_eq!(*expected.get_or_insert(top.clone()), top, "{name}");
        assert!(between.seen().len() > 8, "{name}: nothing was asked for again");
    }
}

#[test]
fn what_does_not_pass_is_told() {
    let source = project(As::Root, &small());
    let registry = Registry::start(&source, Kind::Plain);
    registry.push(&source, "oci:img:latest", "app:1");
    let big = sha256(&small()[0].stored);
    let blob = |fate: fn() -> Fate| -> Decide {
        let big = big.clone();
        Box::new(move |it, _| if it.path.ends_with(&big) { fate() } else { Fate::Pass })
    };
    let others = |wanted: &'static str, fate: fn() -> Fate| -> Decide {
        Box::new(move |it, _| if it.path.contains(wanted) && it.path != "/v2/" { fate() } else { Fate::Pass })
    };
    for (what, decide, messages) in [
        ("app:1", blob(|| Fate::Wrong(1000)), vec!["wrong content: expected sha256", &*big]),
        ("app:1", blob(|| Fate::Short(10)), vec!["wrong size"]),
        ("app:1", blob(|| Fate::Answer(404, String::new(), vec![])), vec!["the registry has no such image"]),
        ("app:1", others("/manifests/1", || Fate::Wrong(3)), vec!["its manifest is damaged"]),
        ("app:1", others("/manifests/sha256:", || Fate::Wrong(3)), vec!["its manifest is damaged"]),
        ("app:1", others("/blobs/", || Fate::Wrong(3)), vec!["wrong content"]),
        (
            "app:gone",
            others("/nothing", || Fate::Pass),
            vec!["the registry has no such image", "manifest unknown"],
        ),
        ("none:1", others("/nothing", || Fate::Pass), vec!["the registry has no such image"]),
        (
            "app:1",
            others("/manifests/", || Fate::Answer(200, String::new(), vec![b' '; 5 << 20])),
            vec!["longer than 4194304 bytes"],
        ),
        (
            "app:1",
            others("/manifests/", || {
                let said = br#"{"errors":[{"code":"DENIED","message":"go\u001b[31m away"}]}"#;
                Fate::Answer(403, String::new(), said.to_vec())
            }),
            vec!["not for everybody (go[31m away)", "docker login"],
        ),
    ] {
        let between = Between::start(&registry.host, decide);
        let text = format!("\nFROM docker://{}/{what}\n", between.host);
        let project = Project::new(&[("t.rapt", &text)]).with_empty_store();
        let ran = fails(&project, &between.host, &["build", "t"], &["error[E0602]", "t.rapt:2:1"]);
        for message in messages {
            assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
        }
        assert_eq!(fs::read_dir(project.store().join("tmp")).unwrap().count(), 0, "{what}");
    }
    // Nobody is there.
    let host = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let text = format!("FROM docker://{host}/app:1\n");
    let project = Project::new(&[("t.rapt", &text)]).with_empty_store();
    fails(&project, &host, &["build", "t"], &["error[E0602]", &host, "refused"]);
    assert!(!project.path("Raptor.lock").exists());
}

#[test]
fn what_is_no_image_is_refused() {
    let descriptor = |kind: &str, text: &str| json!({ "mediaType": kind, "digest": format!("sha256:{}", sha256(text.as_bytes())), "size": text.len() });
    const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    const OCI: &str = "application/vnd.oci.image";
    let image = |config: Value, layers: &[Value]| json!({ "schemaVersion": 2, "mediaType": format!("{OCI}.manifest.v1+json"), "config": config, "layers": layers });
    let layer = |kind: &str| {
        let mut layer = descriptor(kind, "x");
        layer["urls"] = json!(["http://origin.example/x"]);
        layer
    };
    let config = || descriptor(&format!("{OCI}.config.v1+json"), CONFIG);
    let arm = json!({ "os": "linux", "architecture": "arm64" });
    let mut for_arm = descriptor(&format!("{OCI}.manifest.v1+json"), "x");
    for_arm["platform"] = arm;
    for (manifest, expected) in [
        (json!({ "schemaVersion": 1, "fsLayers": [], "history": [] }), "schema version 1"),
        (
            image(config(), &[layer("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")]),
            "a layer of a kind that is not supported",
        ),
        (
            image(config(), &[layer(&format!("{OCI}.layer.nondistributable.v1.tar+gzip"))]),
            "a layer of a kind that is not supported",
        ),
        (image(config(), &[layer(&format!("{OCI}.layer.v1.tar+gzip+encrypted"))]), "+encrypted"),
        (
            image(config(), &[layer(&format!("{OCI}.layer.v1.tar"))]),
            "its manifest has 1 layers, its configuration 0",
        ),
        (
            image(descriptor("application/vnd.example.chart.v1+json", CONFIG), &[]),
            "it is no image, but something else: application/vnd.example.chart.v1+json",
        ),
        (
            json!({ "schemaVersion": 2, "manifests": [for_arm] }),
            "no image for linux/amd64; there is: linux/arm64",
        ),
        (json!({ "schemaVersion": 2, "manifests": [] }), "no image for linux/amd64"),
        (json!({ "schemaVersion": 2, "layers": [], "manifests": [] }), "is an index as well"),
        (json!("nonsense"), "the manifest does not parse"),
    ] {
        let text = manifest.to_string();
        let between = Between::start("127.0.0.1:1", move |it, _| match &*it.path {
            "/v2/" => Fate::Answer(200, String::new(), vec![]),
            path if path.contains("/manifests/") => Fate::Answer(200, String::new(), text.clone().into()),
            _ => Fate::Answer(200, String::new(), CONFIG.into()),
        });
        let text = format!("FROM docker://{}/app:1\n", between.host);
        let project = Project::new(&[("t.rapt", &text)]).with_empty_store();
        fails(&project, &between.host, &["build", "t"], &["error[E0602]", "t.rapt:1:1", expected]);
        assert!(!project.path("Raptor.lock").exists(), "{manifest}");
    }
}
