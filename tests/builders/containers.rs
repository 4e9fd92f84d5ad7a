//! Images of containers.

use std::path::Path;

use super::*;
use serde_json::{Value, json};

pub const DOCKER: &[(&str, &str)] = &[
    ("CMD", "echo hello"),
    ("ENV", "A=b c\nPATH=/bin\n\nEMPTY=\n"),
    ("LABELS", "org.example/x=a=b\n"),
    ("PORTS", "80 53/udp"),
    ("VOLUMES", "/data /srv"),
    ("WORKDIR", "/srv"),
    ("RUN_AS", "1000:2000"),
    ("SIGNAL", "SIGINT"),
    ("ENTRYPOINT", "[\"/bin/sh\", \"-c\"]"),
];

pub const OCI: &[(&str, &str)] = &[
    ("FORMAT", "oci"),
    ("NAME", "registry.example:5000/a/b-c"),
    ("TAG", "1.0"),
    ("CMD", "[\"/x\", \"y z\"]"),
];

/// What umoci unpacks of an image that skopeo read.
fn unpacked(image: &str) -> BTreeMap<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    run("skopeo", &["copy", "-q", image, &format!("oci:{}:x", path("image"))]);
    run("umoci", &["unpack", "--image", &format!("{}:x", path("image")), &path("bundle")]);
    list(Path::new(&path("bundle/rootfs")))
}

fn settings(image: &str) -> Value {
    serde_json::from_str(&run("skopeo", &["inspect", "--config", image])).unwrap()
}

fn image(transport: &str, name: &str, tag: &str) -> String {
    format!("{transport}:{}:{tag}", output(name).display())
}

#[test]
fn images_have_the_target() {
    let expected = expected("top");
    for image in [
        image("docker-archive", "docker", "top:latest"),
        image("oci-archive", "docker", "top:latest"),
        image("oci-archive", "oci", "registry.example:5000/a/b-c:1.0"),
    ] {
        assert_same(&image, &unpacked(&image), &expected);
    }
}

#[test]
fn several_targets_are_several_images_that_share_layers() {
    let layers = |tag: &str| -> Vec<Value> {
        let shown: Value =
            serde_json::from_str(&run("skopeo", &["inspect", &image("docker-archive", "docker", tag)]))
                .unwrap();
        shown["Layers"].as_array().unwrap().clone()
    };
    let (top, boot) = (layers("top:latest"), layers("boot:latest"));
    // Three of the image below, and one of each file.
    assert_eq!((top.len(), boot.len()), (5, 6));
    assert_eq!(top[..], boot[..5]);
    assert_same("boot", &unpacked(&image("docker-archive", "docker", "boot:latest")), &expected("boot"));
}

#[test]
fn images_say_how_they_are_run() {
    let config = settings(&image("docker-archive", "docker", "top:latest"));
    assert_eq!(
        config["config"],
        json!({
            "Cmd": ["/bin/sh", "-c", "echo hello"],
            "Entrypoint": ["/bin/sh", "-c"],
            "Env": ["A=b c", "PATH=/bin", "EMPTY="],
            "ExposedPorts": { "80/tcp": {}, "53/udp": {} },
            "Labels": { "org.example/x": "a=b" },
            "StopSignal": "SIGINT",
            "User": "1000:2000",
            "Volumes": { "/data": {}, "/srv": {} },
            "WorkingDir": "/srv",
        })
    );
    let history = config["history"].as_array().unwrap();
    assert_eq!(history.len(), 5);
    assert!(
        history[4]["created_by"] == "raptor top" && history[4]["created"] == config["created"],
        "{config}"
    );

    let config = settings(&image("oci-archive", "oci", "registry.example:5000/a/b-c:1.0"));
    assert_eq!(
        config["config"],
        json!({
            "Cmd": ["/x", "y z"],
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        })
    );
}

#[test]
fn what_is_made_can_be_built_on() {
    let mut expected = expected("top");
    // The root directory of what is built on an image has the time of the image.
    expected.remove("");
    let project = Project::of(
        As::Root,
        &[
            ("docker.rapt", "FROM docker-archive:docker.tar:top:latest\n"),
            ("oci-zstd.rapt", "FROM oci-archive:oci-zstd.tar\n"),
        ],
    );
    for name in ["docker", "oci-zstd"] {
        fs::copy(output(name), project.path(&format!("{name}.tar"))).unwrap();
        let mut found = merged(&layers(&project, name), list);
        found.remove("");
        assert_same(name, &found, &expected);
    }
}
