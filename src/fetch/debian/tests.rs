use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, DetachedSignature, KeyType, SecretKeyParamsBuilder,
    SignedPublicKey, SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::Signature;
use pgp::ser::Serialize;
use pgp::types::{Password, SigningKey};
use rand::thread_rng;

use sha2::{Digest, Sha256};

use super::signature::Keyring;
use super::*;

/// A key with a signing subkey.
fn key() -> SignedSecretKey {
    key_of(KeyType::Ed25519Legacy)
}

fn key_of(kind: KeyType) -> SignedSecretKey {
    let subkey =
        SubkeyParamsBuilder::default().key_type(KeyType::Ed25519Legacy).can_sign(true).build().unwrap();
    let mut params = SecretKeyParamsBuilder::default();
    params.key_type(kind).can_certify(true).can_sign(true).primary_user_id("Test".into());
    params.subkey(subkey).build().unwrap().generate(thread_rng()).unwrap()
}

fn ring(keys: &[&SignedSecretKey]) -> Keyring {
    let bytes = keys.iter().flat_map(|it| SignedPublicKey::from((*it).clone()).to_bytes().unwrap());
    Keyring::parse(&bytes.collect::<Vec<_>>(), "keys of the test").unwrap()
}

fn signature(text: &str, key: &impl SigningKey, hash: HashAlgorithm) -> Signature {
    let signed =
        DetachedSignature::sign_text_data(thread_rng(), key, &Password::empty(), hash, text.as_bytes());
    signed.unwrap().signature
}

/// Clear-signs with the primary key of each of `keys`.
fn sign(text: &str, keys: &[&SignedSecretKey]) -> String {
    let signatures = |text: &str| {
        Ok(keys.iter().map(|it| signature(text, &it.primary_key, HashAlgorithm::Sha256)).collect())
    };
    frame(text, signatures)
}

fn frame(text: &str, signatures: impl FnOnce(&str) -> pgp::errors::Result<Vec<Signature>>) -> String {
    let message = CleartextSignedMessage::new_many(text, signatures).unwrap();
    message.to_armored_string(ArmorOptions::default()).unwrap()
}

#[track_caller]
fn rejected(result: Result<String, SignatureError>, expected: &str) {
    let err = result.unwrap_err().to_string();
    assert!(err.contains(expected), "{err}\nexpected {expected}");
}

const TEXT: &str = "Suite: x\n-----\n- dash\n-dash\n\nfinal";

#[test]
fn good_signatures() {
    let (ours, other) = (key(), key());
    let ring = ring(&[&other, &ours]);
    let signed = sign(TEXT, &[&ours]);
    assert!(signed.contains("\n- -----\n- - dash\n- -dash\n"), "{signed}");
    assert_eq!(ring.verify(&signed).unwrap(), TEXT);
    // Line ends, blanks at line ends and around the frame do not matter; the blanks are not part of the text.
    assert_eq!(ring.verify(&signed.replace('\n', "\r\n")).unwrap(), TEXT);
    assert_eq!(ring.verify(&signed.replace("final\n", "final \t\n")).unwrap(), TEXT);
    assert_eq!(ring.verify(&format!("{signed}\n\n")).unwrap(), TEXT);
    // One of several signatures is enough, and unknown ones do not matter.
    assert_eq!(ring.verify(&sign(TEXT, &[&key(), &ours, &other, &key()])).unwrap(), TEXT);
    // Signing subkeys count.
    let subkey = &ours.secret_subkeys[0].key;
    assert_eq!(
        ring.verify(&frame(TEXT, |it| Ok(vec![signature(it, subkey, HashAlgorithm::Sha512)]))).unwrap(),
        TEXT
    );
}

#[test]
fn bad_signatures() {
    let (ours, other) = (key(), key());
    let ring = ring(&[&ours]);
    let signed = sign(TEXT, &[&ours]);
    rejected(ring.verify(&signed.replace("Suite: x", "Suite: y")), "was changed");
    rejected(ring.verify(&signed.replace("final", "")), "was changed");
    rejected(ring.verify(&signed.replace("final\n", "final\n\n")), "was changed");
    rejected(ring.verify(&signed.replace("- dash", "dash")), "was changed");
    rejected(ring.verify(&sign(TEXT, &[&other])), "not keys of the test");
    rejected(ring.verify(TEXT), "not an OpenPGP clear-signed text");
    rejected(ring.verify(""), "not an OpenPGP clear-signed text");
    rejected(ring.verify(&frame(TEXT, |_| Ok(Vec::new()))), "carries no signature");
    // Text around the frame is not signed.
    rejected(ring.verify(&format!("Suite: evil\n{signed}")), "not an OpenPGP");
    rejected(ring.verify(&format!("{signed}Suite: evil\n")), "not an OpenPGP");
    // A good signature does not excuse a bad one by a known key.
    let elsewhere = signature("elsewhere", &ours.primary_key, HashAlgorithm::Sha256);
    let good = |text: &str| signature(text, &ours.primary_key, HashAlgorithm::Sha256);
    rejected(ring.verify(&frame(TEXT, |it| Ok(vec![good(it), elsewhere]))), "was changed");
    // Weak hashes.
    let rsa = key_of(KeyType::Rsa(2048));
    let weak = frame(TEXT, |it| Ok(vec![signature(it, &rsa.primary_key, HashAlgorithm::Sha1)]));
    rejected(self::ring(&[&rsa]).verify(&weak), "SHA1, which is too weak");
    // A signature over a text that is moved to a frame of an empty text.
    let begin = signed.find("\n\n").unwrap() + 2;
    let end = signed.find("-----BEGIN PGP SIGNATURE").unwrap();
    rejected(ring.verify(&format!("{}{}", &signed[..begin], &signed[end..])), "was changed");
}

#[test]
fn debian_keys() {
    let ring = Keyring::debian().unwrap();
    rejected(ring.verify(&sign(TEXT, &[&key()])), "not Debian archive keys");
}

#[test]
fn armor_and_detached_signatures() {
    let (ours, other) = (key(), key());
    let armored = |key: &SignedSecretKey| {
        SignedPublicKey::from(key.clone()).to_armored_string(ArmorOptions::default()).unwrap()
    };
    // Several blocks, with text before the first.
    let text = format!("these are keys\n{}\n{}", armored(&other), armored(&ours));
    let text = text.replacen("these are keys\n", "\n", 1);
    let ring = Keyring::parse(text.as_bytes(), "ours").unwrap();
    assert_eq!(ring.verify(&sign(TEXT, &[&ours])).unwrap(), TEXT);
    assert!(Keyring::parse(b"", "ours").is_err());
    assert!(Keyring::parse(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "ours").is_err());
    assert!(Keyring::parse(b"no keys at all", "ours").is_err());

    let sign = |key: &SignedSecretKey, text: &str| {
        let signed = DetachedSignature::sign_binary_data(
            thread_rng(),
            &key.primary_key,
            &Password::empty(),
            HashAlgorithm::Sha256,
            text.as_bytes(),
        );
        signed.unwrap().to_armored_bytes(ArmorOptions::default()).unwrap()
    };
    assert_eq!(ring.verify_detached(TEXT.as_bytes(), &sign(&ours, TEXT)).unwrap(), TEXT);
    rejected(ring.verify_detached(b"Suite: y", &sign(&ours, TEXT)), "was changed");
    rejected(ring.verify_detached(TEXT.as_bytes(), &sign(&key(), TEXT)), "not ours");
    rejected(ring.verify_detached(TEXT.as_bytes(), b""), "not an OpenPGP");
}

/// A whole mirror in memory; `edit` may change a file on its way, or make it missing (empty).
fn pin_from(release: &str, edit: impl Fn(&str, Vec<u8>) -> Vec<u8>) -> Result<DebianPin, Error> {
    let key = key();
    let sha = "A".repeat(64);
    let index = ["apt\nDepends: libapt", "libapt", "dpkg\nEssential: yes"].map(|it| {
        let (name, fields) = it.split_once('\n').unwrap_or((it, ""));
        format!(
            "Package: {name}\nVersion: 1:2-3\nArchitecture: all\nFilename: pool/{name}.deb\nSize: 7\nSHA256: {sha}\n{fields}"
        )
    });
    let index = index.join("\n\n");
    let digest: String = Sha256::digest(&index).iter().map(|it| format!("{it:02x}")).collect();
    let release = release.replace("INDEX", &format!("{digest} {} main/binary-amd64/Packages", index.len()));
    let mut get = |url: &str| {
        let path = url.strip_prefix("http://mirror.example/debian/").unwrap();
        let bytes = match path {
            "dists/trixie/InRelease" => sign(&release, &[&key]).into_bytes(),
            _ if path == format!("dists/trixie/main/binary-amd64/by-hash/SHA256/{digest}") => {
                index.clone().into()
            }
            "dists/trixie/Release" | "dists/trixie/Release.gpg" => Vec::new(),
            _ => panic!("{url}"),
        };
        let bytes = edit(path, bytes);
        match bytes.is_empty() {
            true => Err(fetch::Error::Status { url: url.to_string(), status: 404 }.into()),
            false => Ok(bytes),
        }
    };
    let mirror = Mirror::new("http://mirror.example/debian").unwrap();
    let mut plan = BasePlan::debian("trixie".parse().unwrap(), &mirror).unwrap();
    plan.archives[0].keys = ring(&[&key]);
    let read = archive::read_all(&mut get, &plan.archives).map_err(|it| it.error)?;
    choose(&plan, &read)
}

const RELEASE: &str = "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\n\
                       Architectures: amd64\nComponents: main\nSHA256:\n INDEX\n";

#[test]
fn pins() {
    let pin = pin_from(RELEASE, |_, bytes| bytes).unwrap();
    assert_eq!((pin.mirror.as_str(), pin.date), ("http://mirror.example/debian", 1_789_199_741));
    assert_eq!(pin.components, ["main"]);
    let names: Vec<_> = pin.packages.iter().map(|it| (it.name.as_str(), it.essential)).collect();
    assert_eq!(names, [("dpkg", true), ("libapt", false), ("apt", false)]);
    assert_eq!(pin.packages[0].sha256, "a".repeat(64));

    let mirrors = ["http://other.mirror.example", &pin.mirror].map(|it| Mirror::new(it).unwrap());
    let downloads = wanted(&pin.packages, |_| mirrors.to_vec());
    assert_eq!(downloads[1].name, "libapt_1:2-3_all.deb");
    assert_eq!(
        downloads[1].urls,
        ["http://other.mirror.example/pool/libapt.deb", "http://mirror.example/debian/pool/libapt.deb"]
    );
    assert_eq!((downloads[1].size, downloads[1].sha256.len()), (7, 64));
}

#[test]
fn broken_mirrors() {
    let check = |result: Result<DebianPin, Error>, expected: &[&str]| {
        let err = result.unwrap_err().to_string();
        assert!(expected.iter().all(|it| err.contains(it)), "{err}");
    };
    let edit = |from: &'static str, to: &'static str| {
        move |_: &str, bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(from, to).into_bytes()
    };
    let url = "http://mirror.example/debian/dists/trixie/InRelease cannot be trusted: ";
    check(pin_from(RELEASE, edit("Sat, 12 Sep", "Sat, 19 Sep")), &[url, "was changed"]);
    check(pin_from(RELEASE, edit("pool/apt.deb", "pool/evil.deb")), &["by-hash/SHA256/", "try again later"]);
    let missing = "http://mirror.example/debian has no suite `trixie` (";
    check(pin_from(RELEASE, |_, _| Vec::new()), &[missing, "dists/trixie/InRelease does not exist"]);
    check(pin_from(RELEASE, |_, _| b"<html>".to_vec()), &[url, "clear-signed"]);
    check(pin_from(&RELEASE.replace("trixie", "sid"), |_, it| it), &["codename `sid`", "not to `trixie`"]);
    check(
        pin_from(&RELEASE.replace(" INDEX\n", ""), |_, it| it),
        &["dists/trixie/InRelease", "no package index"],
    );
}

#[test]
fn requests() {
    for (text, expected) in [
        ("bookworm", "bookworm"),
        ("trixie?variant=minbase", "trixie"),
        ("sid?", "sid"),
        ("trixie?variant=apt", "trixie?variant=apt"),
        ("bookworm-backports", "bookworm-backports"),
        // Whatever the order, the name is one.
        (
            "sid?variant=apt&suites=updates,security&include=g++,curl,g++,&components=non-free,main",
            "sid?components=main,non-free&include=curl,g++&suites=security,updates&variant=apt",
        ),
        ("sid?include=linux-image-amd64/backports", "sid?include=linux-image-amd64/backports"),
    ] {
        let request: Request = text.parse().unwrap();
        assert_eq!(request.to_string(), expected);
        assert_eq!(expected.parse(), Ok(request));
    }
    for (text, expected) in [
        ("", "no suite is named"),
        ("?variant=apt", "no suite is named"),
        ("../x", "`../x` cannot be"),
        ("Trixie", "`Trixie` cannot be"),
        ("-x", "`-x` cannot be"),
        ("trixie?variant=full", "`full`: expected `minbase` (the default) or `apt`"),
        ("trixie?variant", "unknown variant ``"),
        ("trixie?archs=arm64", "`archs`: expected `components`, `include`, `suites` or `variant`"),
        ("trixie?arch=arm64", "amd64 is the only one"),
        ("trixie?include=", "`include` names nothing"),
        ("trixie?include=a,B", "`B` cannot be the name of a package"),
        ("trixie?include=../a", "`../a` cannot be"),
        ("trixie?components=main,../x", "`../x` cannot be a component"),
        ("trixie?suites=Updates", "`Updates` cannot be a suite"),
        ("trixie?variant=apt&variant=apt", "`variant` is given more than once"),
    ] {
        let err = text.parse::<Request>().unwrap_err().to_string();
        assert!(err.contains(expected), "{text}: {err}");
    }
}
