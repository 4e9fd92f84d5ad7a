//! Ids of derivations.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Derivation, canonical_json};

/// blake3 of the canonical JSON of a derivation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DrvId([u8; 32]);

impl DrvId {
    pub(super) fn of(derivation: &Derivation) -> DrvId {
        // Derivations hold strings, integers and maps with string keys: serialising them cannot fail.
        let text = canonical_json(derivation).unwrap_or_default();
        DrvId(*blake3::hash(text.as_bytes()).as_bytes())
    }
}

impl fmt::Display for DrvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl fmt::Debug for DrvId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DrvId({self})")
    }
}

impl FromStr for DrvId {
    type Err = blake3::HexError;

    fn from_str(s: &str) -> Result<DrvId, blake3::HexError> {
        Ok(DrvId(*blake3::Hash::from_hex(s)?.as_bytes()))
    }
}

impl Serialize for DrvId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DrvId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<DrvId, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().map_err(|_| serde::de::Error::custom(format!("`{text}` is not a derivation id")))
    }
}
