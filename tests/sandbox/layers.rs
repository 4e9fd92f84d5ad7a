//! Captured layers: what is in them, and that they are the same each time.

use std::fs;

use raptor::sandbox::{self, Attrs, Capture, CopySource, Error, Step};
use raptor::tree::TreeHash;

use crate::world::{World, list, sh};

#[test]
fn layers_say_only_what_differs() {
    let world = World::new();
    assert_eq!(world.layer("true"), [""; 0]);
    // Touched, rewritten with the same content, made and removed again.
    assert_eq!(
        world.layer("touch /etc/dir/a; cp /etc/dir/b /b; mv /b /etc/dir/b; mkdir /x; rm -r /x"),
        [""; 0]
    );
    assert_eq!(
        world.layer("chmod 700 /etc/dir/a; chmod 711 /etc"),
        ["etc d711", "etc/dir d755", "etc/dir/a f700"]
    );
    assert_eq!(
        world.layer("rm /etc/dir/a; rm -r /var/full"),
        ["etc d755", "etc/dir d755", "etc/dir/a w0", "var d755", "var/full w0"]
    );
    // A new directory in the place of an old one shows nothing of the old one.
    assert_eq!(
        world.layer("rm -r /var/full; mkdir -p /var/full/sub; echo new > /var/full/e"),
        [
            "var d755",
            "var/full d755",
            "var/full/d w0",
            "var/full/e f644",
            "var/full/sub d755",
            "var/full/sub/c w0"
        ]
    );
    // One that replaces nothing is no replacement.
    assert_eq!(world.layer("mkdir /t; touch /t/x; mv /t /u"), ["u d755", "u/x f644"]);
    assert_eq!(world.layer("rm -r /etc/dir; echo f > /etc/dir"), ["etc d755", "etc/dir f644"]);
    // Noise goes.
    let noise = "mkdir -p /etc/ssh /var/log/apt /tmp/x /run/y; echo 1 > /etc/machine-id; echo k > /etc/ssh/ssh_host_rsa_key;
                 echo l > /var/log/dpkg.log; echo l > /var/log/apt/history.log; echo p > /etc/passwd-; echo t > /tmp/x/t;
                 echo l > /var/log/fontconfig.log";
    assert_eq!(
        world.layer(noise),
        ["etc d755", "etc/machine-id f0", "etc/ssh d755", "var d755", "var/log d755", "var/log/apt d755"]
            .map(|l| l.replace("f0", "f644"))
    );
}

#[test]
fn noise_that_is_kept_stays() {
    let world = World::new();
    let noise = "mkdir -p /etc/ssh /var/log/apt; cd /var/log; echo l > dpkg.log; echo l > apt/term.log; \
                 echo 1 > /etc/machine-id; echo k > /etc/ssh/ssh_host_rsa_key; echo p > /etc/passwd-; echo r > /run/r";
    let with = |keep: &[&str]| {
        let mut request = world.request(vec![sh(noise)]);
        request.keep = keep.iter().map(|it| it.to_string()).collect();
        world.run(&request).unwrap();
        world.upper()
    };
    assert_eq!(
        with(&["/etc/machine-id", "/var/log/apt"]),
        [
            "etc d755",
            "etc/machine-id f644",
            "etc/ssh d755",
            "var d755",
            "var/log d755",
            "var/log/apt d755",
            "var/log/apt/term.log f644"
        ]
    );
    assert_eq!(fs::read_to_string(world.path("work/upper/etc/machine-id")).unwrap(), "1\n");
    let all = with(&["/"]);
    for path in ["etc/passwd- f644", "etc/ssh/ssh_host_rsa_key f644", "var/log/dpkg.log f644"] {
        assert!(all.iter().any(|it| it == path), "{path}: {all:?}");
    }
    assert!(!all.iter().any(|it| it.starts_with("run")), "{all:?}");
    // What a later layer changes is judged again.
    fs::rename(world.path("work/upper"), world.path("trees/second")).unwrap();
    let mut request = world.request(vec![sh("chmod 600 /etc/machine-id /etc/passwd-")]);
    request.lower.push("second".into());
    world.run(&request).unwrap();
    assert_eq!(world.upper(), ["etc d755", "etc/machine-id f600", "etc/passwd- w0"]);
    assert_eq!(fs::metadata(world.path("work/upper/etc/machine-id")).unwrap().len(), 0);
}

#[test]
fn layers_on_layers() {
    let world = World::new();
    world.sh("rm /etc/dir/a; echo 2 > /etc/dir/b; mkdir -p /var/full/new; echo n > /var/full/new/n");
    fs::rename(world.path("work/upper"), world.path("trees/second")).unwrap();
    let on_two = |script: &str| {
        let mut request = world.request(vec![sh(script)]);
        // The same layer twice, as when two files say the same.
        request.lower.extend(["second".into(), "second".into()]);
        world.run(&request).unwrap();
        (world.output.lock().unwrap().clone(), world.upper())
    };
    assert_eq!(on_two("cat /etc/dir/*; ls /var/full").0, "2\nd\nnew\nsub\n");
    assert_eq!(
        on_two("rm -r /etc/dir; mkdir /etc/dir; echo a > /etc/dir/a").1,
        ["etc d755", "etc/dir d755", "etc/dir/a f644", "etc/dir/b w0"]
    );
    assert_eq!(on_two("echo 2 > /etc/dir/b").1, [""; 0]);
    assert_eq!(
        on_two("printf b > /etc/dir/b; touch /etc/dir/a; rm /etc/dir/a").1,
        ["etc d755", "etc/dir d755", "etc/dir/b f644"]
    );
}

#[test]
fn from_nothing() {
    let world = World::new();
    let source = CopySource { tree: "base".into(), name: "base".into() };
    let copy = Step::Copy { sources: vec![source], dest: "/".into(), attrs: Attrs::default() };
    let tmp = Step::Mkdir {
        path: "/tmp".into(),
        parents: false,
        attrs: Attrs { mode: Some(0o1777), ..Attrs::default() },
    };
    let mut request = world.request(vec![copy, tmp, sh("rm /etc/dir/a; mkdir /empty; echo x > /tmp/x")]);
    request.lower.clear();
    let first =
        world.run(&request).unwrap_or_else(|err| panic!("{err} {}", world.output.lock().unwrap())).layer;
    let upper = world.upper();
    assert!(
        upper.contains(&"tmp d1777".to_string()) && upper.contains(&"empty d755".to_string()),
        "{upper:?}"
    );
    assert!(
        !upper
            .iter()
            .any(|l| ["proc", "dev", "run", "sys", "tmp/x", "etc/dir/a"].iter().any(|p| l.starts_with(p))),
        "{upper:?}"
    );
    sandbox::remove(&world.launcher, &request.work).unwrap();
    fs::create_dir(&request.work).unwrap();
    assert_eq!(world.run(&request).unwrap().layer, first);
}

#[test]
fn kept_and_discarded() {
    let world = World::new();
    let mut request = world.request(vec![sh("echo x >> /x; rm -rf /etc/dir; cat /x")]);
    request.capture = Capture::Keep;
    world.run(&request).unwrap();
    world.run(&request).unwrap();
    assert_eq!(*world.output.lock().unwrap(), "x\nx\n");
    request = world.request(vec![sh("echo x > /x")]);
    request.capture = Capture::Discard;
    assert_eq!(world.run(&request).unwrap().layer, None);
    assert_eq!(list(&world.path("work")), [""; 0]);
}

#[test]
fn many_layers() {
    let world = World::new();
    let mut request = world.request(vec![sh("ls /many | grep -c .")]);
    for n in 0..120 {
        let name = format!("layer-with-a-rather-long-name-{n}");
        fs::create_dir_all(world.path("trees").join(&name).join(format!("many/{n}"))).unwrap();
        request.lower.push(name);
    }
    world.run(&request).unwrap();
    assert_eq!(*world.output.lock().unwrap(), "120\n");
    for _ in 0..400 {
        request.lower.push("base".into());
    }
    assert!(matches!(world.run(&request), Err(Error::Setup(why)) if why.contains("too many")));
}

/// A layer with owners, modes, links and whiteouts.
pub fn varied(world: &World) -> TreeHash {
    let script = "mkdir -p /srv/d; echo x > /srv/x; chown 1000:50 /srv/x; chmod 6755 /srv/x; ln /srv/x /srv/hard; \
                  ln -s x /srv/soft; chown 65534:65534 /srv/d; rm /etc/dir/a; rm -r /var/full; mkdir /var/full; \
                  chown 33 /var/log";
    world.run(&world.request(vec![sh(script)])).unwrap().layer.unwrap().hash
}

#[test]
fn same_hash_again() {
    let first = varied(&World::new());
    assert_eq!(varied(&World::new()), first);
    if let Some(file) = std::env::var_os("RAPTOR_TEST_HASH") {
        fs::write(file, first.to_string()).unwrap();
    }
}
