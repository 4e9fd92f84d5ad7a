//! Small apt archives in memory, signed by keys of their own, and packages to fill them with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DetachedSignature, KeyType, SecretKeyParamsBuilder,
    SignedPublicKey, SignedSecretKey,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::ser::Serialize;
use pgp::types::Password;
use rand::thread_rng;
use sha2::{Digest, Sha256};

use super::server::Server;

/// Files of a server, by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A key that signs.
pub struct Key(SignedSecretKey);

impl Key {
    pub fn new() -> Key {
        let mut params = SecretKeyParamsBuilder::default();
        params.key_type(KeyType::Rsa(2048)).can_certify(true).can_sign(true).primary_user_id("Test".into());
        Key(params.build().unwrap().generate(thread_rng()).unwrap())
    }

    pub fn binary(&self) -> Vec<u8> {
        SignedPublicKey::from(self.0.clone()).to_bytes().unwrap()
    }

    pub fn armored(&self) -> String {
        SignedPublicKey::from(self.0.clone()).to_armored_string(ArmorOptions::default()).unwrap()
    }

    fn sign(&self, text: &str) -> Vec<u8> {
        let sign = |text: &str| {
            let key = &self.0.primary_key;
            let hash = HashAlgorithm::Sha256;
            let signed = DetachedSignature::sign_text_data(
                thread_rng(),
                key,
                &Password::empty(),
                hash,
                text.as_bytes(),
            );
            Ok(vec![signed?.signature])
        };
        let message = CleartextSignedMessage::new_many(text, sign).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap().into_bytes()
    }
}

/// What a suite says of itself.
pub struct Suite<'a> {
    /// Directory of the mirror on the server.
    pub root: &'a str,
    /// Name; with `/` at its end a directory.
    pub name: &'a str,
    /// Its only component.
    pub component: &'a str,
    /// Further lines of the Release file.
    pub fields: &'a str,
    /// Paragraphs of packages.
    pub packages: &'a str,
}

impl Suite<'_> {
    /// Adds the signed Release file and the index.
    pub fn publish(&self, key: &Key, files: &mut Files) {
        let flat = self.name.ends_with('/');
        let dir = match flat {
            true => self.root.to_owned(),
            false => format!("{}/dists/{}", self.root, self.name),
        };
        let index = if flat { String::new() } else { format!("{}/binary-amd64/", self.component) };
        let index = format!("{index}Packages");
        let digest = sha256(self.packages.as_bytes());
        let names = match flat {
            true => String::new(),
            false => format!(
                "Suite: {0}\nCodename: {0}\nComponents: {1}\nArchitectures: amd64\n",
                self.name, self.component
            ),
        };
        let release = format!(
            "{names}Date: Sat, 12 Sep 2026 07:55:41 UTC\n{}SHA256:\n {digest} {} {index}\n",
            self.fields,
            self.packages.len()
        );
        files.insert(format!("{dir}/InRelease"), key.sign(&release));
        files.insert(format!("{dir}/{index}"), self.packages.as_bytes().to_vec());
    }
}

/// Builds a package from its control fields and a script `/usr/bin/NAME`; gives its paragraph for an index. It is put
/// into the directory `root` of the server.
pub fn package(name: &str, fields: &str, root: &str, files: &mut Files) -> String {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    let control = format!(
        "Package: {name}\nArchitecture: all\nMaintainer: Test <test@mail.example>\nDescription: x\n{fields}"
    );
    write(&tree.join("DEBIAN/control"), &control, 0o644);
    write(&tree.join("usr/bin").join(name), &format!("#!/bin/sh\necho {name} is here\n"), 0o755);
    let deb = dir.path().join("x.deb");
    let built =
        Command::new("dpkg-deb").args(["--build", "--root-owner-group"]).arg(&tree).arg(&deb).output();
    assert!(built.unwrap().status.success());
    let bytes = fs::read(deb).unwrap();
    let path = format!("pool/{name}.deb");
    let paragraph =
        format!("{control}Filename: {path}\nSize: {}\nSHA256: {}\n\n", bytes.len(), sha256(&bytes));
    files.insert(format!("{root}/{path}"), bytes);
    paragraph
}

fn write(path: &Path, text: &str, mode: u32) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|it| format!("{it:02x}")).collect()
}

/// The file that a URL path means, as clients write it.
pub fn find(files: &Files, path: &str) -> Option<Vec<u8>> {
    files.get(&plain(path)).cloned()
}

/// A path without the ways of writing it that clients have.
pub fn plain(path: &str) -> String {
    path.replace("/./", "/").replace("%7e", "~").replace("%2b", "+").replace("%3a", ":")
}

/// Serves files on this machine.
pub fn serve(files: Files) -> Server {
    Server::start(move |path| match find(&files, path) {
        Some(bytes) => (200, String::new(), bytes),
        None => (404, String::new(), Vec::new()),
    })
}
