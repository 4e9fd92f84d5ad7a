//! OpenPGP signatures of Debian archives (RFC 9580 §7), checked against an embedded set of keys or one of a project.
//!
//! Only text that a known key has signed leaves this module. Expiry of keys is not judged: the keyring is the
//! trust root, and suites must stay installable after their keys have aged.

use pgp::composed::{CleartextSignedMessage, Deserializable, DetachedSignature, SignedPublicKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::KeyDetails;

/// The keys of Debian's archives: a copy of `debian-archive-keyring.gpg` of the package debian-archive-keyring.
const DEBIAN: &[u8] = include_bytes!("debian-archive-keyring.gpg");

/// Keys that may sign.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<SignedPublicKey>,
    /// Whose keys they are, for messages: `Debian archive keys`.
    whose: String,
}

/// Why a text is not to be believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// The keyring itself is damaged.
    #[error("the keyring cannot be read: {0}")]
    Keyring(#[source] Box<pgp::errors::Error>),
    /// Not a clear-signed text.
    #[error("it is not an OpenPGP clear-signed text: {0}")]
    Format(#[source] Box<pgp::errors::Error>),
    /// The frame is there, but no signature in it.
    #[error("it carries no signature")]
    Unsigned,
    /// Nothing in the keyring.
    #[error("there is no OpenPGP public key in {0}")]
    NoKeys(String),
    /// All signatures are by keys we do not know.
    #[error("it is signed only by keys that are not {whose}: {keys}")]
    UnknownKeys {
        /// Whose keys were expected.
        whose: String,
        /// Fingerprints of the keys that signed.
        keys: String,
    },
    /// A key that we know signed another text.
    #[error("the signature by key {0} does not fit the text, which was changed or damaged")]
    Bad(String),
    /// A key that we know signed in a way that proves nothing.
    #[error("the signature by key {key} {problem}")]
    Worthless {
        /// Fingerprint.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Keyring {
    /// The embedded keys of Debian's archives.
    pub fn debian() -> Result<Keyring, SignatureError> {
        Keyring::parse(DEBIAN, "Debian archive keys")
    }

    /// Transferable public keys, one after the other, binary or in ASCII armor; `whose` they are is for messages.
    pub fn parse(bytes: &[u8], whose: &str) -> Result<Keyring, SignatureError> {
        let keys = match bytes.trim_ascii_start().starts_with(b"-----BEGIN") {
            true => armored(&String::from_utf8_lossy(bytes)),
            false => SignedPublicKey::from_bytes_many(bytes).and_then(Iterator::collect::<Result<Vec<_>, _>>),
        };
        let keys = keys.map_err(|err| SignatureError::Keyring(Box::new(err)))?;
        match keys.is_empty() {
            true => Err(SignatureError::NoKeys(whose.to_owned())),
            false => Ok(Keyring { keys, whose: whose.to_owned() }),
        }
    }

    /// The signed text, with `\n` line ends and without trailing blanks, if at least one key of this ring has
    /// signed it and no signature by a key of this ring is bad.
    pub fn verify(&self, clear_signed: &str) -> Result<String, SignatureError> {
        // The parser counts the padding of its own buffer as trailing data, so give it nothing to count.
        let (message, _) = CleartextSignedMessage::from_string(clear_signed.trim_end())
            .map_err(|err| SignatureError::Format(Box::new(err)))?;
        let text = message.signed_text();
        self.judge_all(message.signatures().iter(), text.as_bytes())?;
        Ok(text.replace("\r\n", "\n"))
    }

    /// The same for a text with its signatures, armored, in a file of their own.
    pub fn verify_detached(&self, text: &[u8], signatures: &[u8]) -> Result<String, SignatureError> {
        let format = |err| SignatureError::Format(Box::new(err));
        let (found, _) = DetachedSignature::from_armor_many(signatures).map_err(format)?;
        let found = found.collect::<Result<Vec<_>, _>>().map_err(format)?;
        self.judge_all(found.iter().map(|it| &it.signature), text)?;
        Ok(String::from_utf8_lossy(text).replace("\r\n", "\n"))
    }

    fn judge_all<'s>(
        &self,
        signatures: impl Iterator<Item = &'s Signature>,
        text: &[u8],
    ) -> Result<(), SignatureError> {
        let mut unknown = Vec::new();
        let mut good = false;
        for signature in signatures {
            match self.check(signature, text)? {
                Verdict::Good => good = true,
                Verdict::Unknown => unknown.push(issuer(signature)),
            }
        }
        match (good, unknown.is_empty()) {
            (true, _) => Ok(()),
            (false, true) => Err(SignatureError::Unsigned),
            (false, false) => {
                Err(SignatureError::UnknownKeys { whose: self.whose.clone(), keys: unknown.join(", ") })
            }
        }
    }

    fn check(&self, signature: &Signature, text: &[u8]) -> Result<Verdict, SignatureError> {
        for key in &self.keys {
            if made_by(signature, &key.primary_key) && key.details.revocation_signatures.is_empty() {
                return judge(signature, key.primary_key.fingerprint(), || {
                    signature.verify(&key.primary_key, text)
                });
            }
            for subkey in &key.public_subkeys {
                let may_sign = || {
                    subkey.verify_bindings(&key.primary_key).is_ok()
                        && subkey.signatures.iter().all(|it| it.typ() == Some(SignatureType::SubkeyBinding))
                        && subkey.signatures.iter().any(|it| it.key_flags().sign())
                };
                if made_by(signature, &subkey.key) && may_sign() {
                    return judge(signature, subkey.key.fingerprint(), || {
                        signature.verify(&subkey.key, text)
                    });
                }
            }
        }
        Ok(Verdict::Unknown)
    }
}

/// Several blocks may follow one another, as in files made with `cat`.
fn armored(text: &str) -> pgp::errors::Result<Vec<SignedPublicKey>> {
    const END: &str = "-----END PGP PUBLIC KEY BLOCK-----";
    let mut keys = Vec::new();
    for block in text.split_inclusive(END).filter(|it| it.contains(END)) {
        let start = block.find("-----BEGIN").unwrap_or(0);
        let (found, _) = SignedPublicKey::from_armor_many(block.as_bytes().get(start..).unwrap_or_default())?;
        keys.extend(found.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(keys)
}

enum Verdict {
    Good,
    Unknown,
}

/// Other types of signature do not cover the text at all, and weak hashes cover more than one text.
fn judge(
    signature: &Signature,
    key: impl std::fmt::Display,
    verify: impl FnOnce() -> pgp::errors::Result<()>,
) -> Result<Verdict, SignatureError> {
    let worthless = |problem: String| Err(SignatureError::Worthless { key: key.to_string(), problem });
    if !matches!(signature.typ(), Some(SignatureType::Text | SignatureType::Binary)) {
        return worthless("is not a signature of a document".to_string());
    }
    match signature.hash_alg() {
        Some(HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512) => {}
        Some(HashAlgorithm::Sha3_256 | HashAlgorithm::Sha3_512) => {}
        Some(weak) => return worthless(format!("uses the hash {weak}, which is too weak")),
        None => return worthless("is of an unknown version".to_string()),
    }
    verify().map(|()| Verdict::Good).map_err(|_| SignatureError::Bad(key.to_string()))
}

fn made_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    signature.issuer_fingerprint().into_iter().any(|it| *it == key.fingerprint())
        || signature.issuer_key_id().into_iter().any(|it| *it == key.legacy_key_id())
}

/// How the maker of a signature is named to the user.
fn issuer(signature: &Signature) -> String {
    match (signature.issuer_fingerprint().first(), signature.issuer_key_id().first()) {
        (Some(fingerprint), _) => fingerprint.to_string(),
        (None, Some(id)) => id.to_string(),
        (None, None) => "unnamed".to_string(),
    }
}
