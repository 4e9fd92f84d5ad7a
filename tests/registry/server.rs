//! A real registry on loopback, for one test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::common::Project;

/// The user of a registry that wants one, and the password with its bcrypt hash.
pub const USER: &str = "me";
pub const PASSWORD: &str = "hush";
const HTPASSWD: &str = "me:$2y$05$abcdefghijklmnopqrstuulzd.YqjLDl8lvpSmVj3De/fioSBHnUa\n";

/// A running registry.
pub struct Registry {
    server: Child,
    /// `host:port`
    pub host: String,
    with_password: bool,
}

/// What a registry is like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Plain HTTP, for everybody.
    Plain,
    /// HTTPS with a certificate of `ca.pem` in the project, and a password.
    Guarded,
}

impl Registry {
    /// Starts a registry whose files are below `registry` in the project.
    pub fn start(project: &Project, kind: Kind) -> Registry {
        let dir = project.path("registry");
        fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name).display().to_string();
        let mut config = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n",
            at("data")
        );
        config += "http:\n  addr: 127.0.0.1:0\n";
        if kind == Kind::Guarded {
            certify(&dir);
            fs::copy(dir.join("ca.pem"), project.path("ca.pem")).unwrap();
            fs::write(dir.join("htpasswd"), HTPASSWD).unwrap();
            config += &format!("  tls: {{certificate: {}, key: {}}}\n", at("cert.pem"), at("key.pem"));
            config += &format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", at("htpasswd"));
        }
        fs::write(dir.join("config.yml"), config).unwrap();
        let mut server = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("package docker-registry is needed");
        let mut lines = BufReader::new(server.stderr.take().unwrap()).lines();
        let host = loop {
            let line = lines.next().expect("the registry ended").unwrap();
            if let Some(rest) = line.split("listening on ").nth(1) {
                break rest.split([',', '"', ' ']).next().unwrap().to_owned();
            }
        };
        // It must not wait for somebody to read what else it says.
        std::thread::spawn(move || lines.for_each(drop));
        Registry { server, host, with_password: kind == Kind::Guarded }
    }

    /// Copies an image of the project, `oci:LAYOUT:TAG`, to a name such as `team/app:1.0`.
    pub fn push(&self, project: &Project, from: &str, name: &str) {
        let mut skopeo = Command::new("skopeo");
        skopeo.args(["--insecure-policy", "copy", "--quiet", "--all", "--dest-tls-verify=false"]);
        if self.with_password {
            skopeo.arg(format!("--dest-creds={USER}:{PASSWORD}"));
        }
        let to = format!("docker://{}/{name}", self.host);
        let done = skopeo.args([from, &to]).current_dir(project.path("")).output();
        let done = done.expect("package skopeo is needed");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

/// Makes an authority and a certificate of it for 127.0.0.1.
fn certify(dir: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "test authority");
    let authority_key = KeyPair::generate().unwrap();
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = Issuer::from_params(&authority, &authority_key);
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(dir.join("ca.pem"), root.pem()).unwrap();
    fs::write(dir.join("cert.pem"), leaf.pem()).unwrap();
    fs::write(dir.join("key.pem"), key.serialize_pem()).unwrap();
}
