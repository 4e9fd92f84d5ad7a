//! Ids of derivations.

use super::{Derivation, canonical_json};
use crate::tree::hash_id;

hash_id! {
    /// blake3 of the canonical JSON of a derivation.
    DrvId, "a derivation id"
}

impl DrvId {
    pub(super) fn of(derivation: &Derivation) -> DrvId {
        // Derivations hold strings, integers and maps with string keys: serialising them cannot fail.
        let text = canonical_json(derivation).unwrap_or_default();
        DrvId::new(*blake3::hash(text.as_bytes()).as_bytes())
    }
}
