//! Debian roots, made for real: packages from the mirror of this machine, installed in sandboxes, twice.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use raptor::derivation::{Bootstrap, SANDBOX, SYSTEM};
use raptor::fetch::debian::{self, BasePlan, Mirror, MirrorKind};
use raptor::fetch::{Client, Settings};
use raptor::lock::DebianPin;
use raptor::sandbox::{self, Capture, Event, Launcher, Limits, Network, Report, Request, Step};
use raptor::schedule::{apt, bootstrap};
use raptor::store::Store;

/// What must hold in every root, seen from inside.
const CHECK: &str = r#"set -ex
test -z "$(dpkg --audit)"
test "$(readlink /bin /sbin /lib /lib64 | tr '\n' ' ')" = 'usr/bin usr/sbin usr/lib usr/lib64 '
test -s /usr/share/keyrings/debian-archive-keyring.gpg
for absent in /etc/hostname /etc/resolv.conf /var/cache/apt/pkgcache.bin /var/lib/dpkg/status-old /etc/passwd-; do
    test ! -e "$absent"
done
test -z "$(find /var/cache/apt /var/log -name '*.deb' -o -name '*.log')"
test "$(stat -c %U:%G:%a /usr/sbin/unix_chkpwd /var/mail | tr '\n' ' ')" = 'root:shadow:2755 root:mail:2775 '
awk -W version
apt-get check
test "$(apt-get autoremove --dry-run | grep -c ^Remv)" = 0
"#;

#[test]
fn bookworm() {
    check("bookworm");
}

#[test]
fn trixie() {
    check("trixie");
}

#[test]
fn trixie_with_little() {
    check("trixie?variant=apt");
}

/// What must hold after [`INSTALL`], from inside.
const CHECK_INSTALLED: &str = r#"set -ex
less --version
for absent in /var/cache/apt/pkgcache.bin /var/cache/apt/archives/less* /var/log/apt/* /var/log/dpkg.log; do
    test ! -e "$absent"
done
test "$(ls /var/lib/apt/lists | grep -c 'Packages.xz$')" = 1
"#;

/// What users write, as two layers: the lists of the first serve the second.
const INSTALL: [&str; 2] = ["apt-get update", "apt-get install -y less"];

fn check(request: &str) {
    let env = std::env::var("RAPTOR_DEBIAN_MIRROR").ok();
    let mirror = debian::discover(MirrorKind::Main, None, env.as_deref()).unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let test = Test {
        launcher: Launcher { exe: PathBuf::from(env!("CARGO_BIN_EXE_raptor")) },
        store: Store::open(&dir.path().join("store")).unwrap(),
    };
    let request: debian::Request = request.parse().unwrap();
    let (pin, debs) = test.fetch(&mirror, &request);

    let first = test.bootstrap(&request.suite, &pin, &debs, &dir.path().join("first"));
    let second = test.bootstrap(&request.suite, &pin, &debs, &dir.path().join("second"));
    let info = first.layer.unwrap();
    println!("debian://{request}: {info:?}");
    assert_eq!(info, second.layer.unwrap(), "two builds of debian://{request} differ");

    test.store.register(&dir.path().join("first/upper"), &info).unwrap();
    let tree = test.store.path(&info.hash);
    for (name, mode) in [("tmp", 0o1777), ("run", 0o755), ("proc", 0o755), ("dev", 0o755), ("root", 0o700)] {
        let meta = std::fs::metadata(tree.join(name)).unwrap();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o7777, mode, "/{name}");
    }
    let argv = ["sh", "-c", CHECK].map(str::to_string).to_vec();
    let steps = vec![Step::Run { argv, env: Default::default(), cwd: "/".to_string() }];
    let lower = vec![info.hash.to_string()];
    test.run(Request {
        lower,
        steps,
        capture: Capture::Discard,
        ..test.request(&pin, &dir.path().join("look"))
    });

    test.check_apt(&pin, info.hash.to_string(), dir.path());

    // Files may belong to ids that only a sandbox can act for.
    sandbox::remove(&test.launcher, dir.path()).unwrap();
}

struct Test {
    launcher: Launcher,
    store: Store,
}

impl Test {
    /// A pin, and the names of its packages in the store.
    fn fetch(&self, mirror: &Mirror, request: &debian::Request) -> (DebianPin, Vec<String>) {
        let client = Client::new(Settings::from_env()).unwrap();
        let plan = BasePlan::debian(request.clone(), mirror).unwrap();
        let pin = debian::pin(&client, &plan, 0, &mut |_| {}).unwrap();
        let wanted = debian::wanted(&pin.packages, |_| vec![mirror.clone()]);
        let paths = client.download_all(&wanted, &self.store, &|_| {}, &Default::default()).unwrap();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
        (pin, paths.iter().map(name).collect())
    }

    fn bootstrap(&self, suite: &str, pin: &DebianPin, debs: &[String], work: &Path) -> Report {
        let root = Bootstrap {
            name: suite.to_owned(),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            distribution: None,
            suite: suite.to_owned(),
            components: pin.components.clone(),
            mirror: pin.mirror.clone(),
            keyring: None,
            repositories: Vec::new(),
            packages: pin.packages.clone(),
            included: Vec::new(),
            epoch: pin.date,
        };
        let plan = bootstrap::steps(&root, debs);
        self.run(Request {
            mounts: plan.mounts,
            run_files: plan.run_files,
            steps: plan.steps,
            ..self.request(pin, work)
        })
    }

    /// Layers made with apt are the same each time, too. They have the network of this machine.
    fn check_apt(&self, pin: &DebianPin, root: String, dir: &Path) {
        let mut lower = vec![root];
        let step = |text: &str| {
            let env = [("APT_CONFIG", apt::APT_CONF)].map(|(k, v)| (k.to_string(), v.to_string()));
            let argv = ["sh", "-c", text].map(str::to_string).to_vec();
            vec![Step::Run { argv, env: env.into(), cwd: "/".to_string() }]
        };
        let request = |lower: &[String], text: &str, work: &Path| Request {
            lower: lower.to_vec(),
            run_files: [("apt.conf".to_string(), apt::apt_conf().to_string())].into(),
            steps: step(text),
            network: Network::Host,
            ..self.request(pin, work)
        };
        for (idx, text) in INSTALL.iter().enumerate() {
            let works = ["a", "b"].map(|name| dir.join(format!("apt-{idx}{name}")));
            let [first, second] =
                works.each_ref().map(|work| self.run(request(&lower, text, work)).layer.unwrap());
            assert_eq!(first, second, "two runs of `{text}` differ");
            self.store.register(&works[0].join("upper"), &first).unwrap();
            lower.push(first.hash.to_string());
        }
        let look = request(&lower, CHECK_INSTALLED, &dir.join("look-installed"));
        self.run(Request { capture: Capture::Discard, network: Network::None, ..look });
    }

    fn request(&self, pin: &DebianPin, work: &Path) -> Request {
        std::fs::create_dir(work).unwrap();
        Request {
            trees: self.store.trees(),
            work: work.to_path_buf(),
            lower: Vec::new(),
            capture: Capture::Layer,
            keep: Vec::new(),
            mounts: Vec::new(),
            run_files: Default::default(),
            steps: Vec::new(),
            network: Network::None,
            epoch: pin.date,
            limits: Limits::of_this_machine(),
            checkpoints: None,
            forbidden: Default::default(),
            passing_files: Default::default(),
        }
    }

    fn run(&self, request: Request) -> Report {
        let mut output = Vec::new();
        let mut on_event = |event: Event| match event {
            Event::Output(bytes) => output.extend(bytes),
            Event::StepStarted { .. } | Event::StepDone { .. } | Event::Checkpoint { .. } => {}
        };
        let result = sandbox::run(&self.launcher, &request, None, &AtomicBool::new(false), &mut on_event);
        result.unwrap_or_else(|err| panic!("{err}\n{}", String::from_utf8_lossy(&output)))
    }
}
