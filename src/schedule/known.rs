//! Derivations that the store remembers, and the keys they resolve to when their inputs are realized.

use std::collections::BTreeMap;

use crate::derivation::{Derivation, DrvId, Outputs, canonical_json};
use crate::store::{self, Key, Store};

/// Keeps a derivation, so that later commands can name it by id.
pub fn remember(store: &Store, id: &DrvId, derivation: &Derivation) -> Result<(), store::Error> {
    if store.drv_file(&id.to_string()).exists() {
        return Ok(());
    }
    let text = canonical_json(derivation).map_err(std::io::Error::from)?;
    store.write_drv(&id.to_string(), text.as_bytes())
}

/// A derivation kept earlier, checked against its id.
pub fn recall(store: &Store, id: &DrvId) -> Result<Option<Derivation>, store::Error> {
    let file = store.drv_file(&id.to_string());
    let text = match fs_err::read(&file) {
        Ok(text) => text,
        Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    let damaged = |reason: String| store::Error::Damaged { path: file.clone(), reason };
    let derivation: Derivation = serde_json::from_slice(&text).map_err(|err| damaged(err.to_string()))?;
    match derivation.id() == *id {
        true => Ok(Some(derivation)),
        false => Err(damaged("its content has another id".into())),
    }
}

/// The key of a derivation, if the store has all its inputs. `order` is its closure, inputs first.
pub fn key_of(
    store: &Store,
    derivations: &BTreeMap<DrvId, Derivation>,
    order: &[DrvId],
    wanted: &DrvId,
) -> Result<Option<Key>, store::Error> {
    let mut outputs: BTreeMap<DrvId, Outputs> = BTreeMap::new();
    for id in order {
        let Some(derivation) = derivations.get(id) else { return Ok(None) };
        let Ok(resolved) = derivation.resolve(&outputs) else { return Ok(None) };
        let key = Key::new(resolved.key());
        if id == wanted {
            return Ok(Some(key));
        }
        let output = match derivation {
            Derivation::Source(source) => source.tree,
            _ => match store.realized(&key)? {
                Some(realized) => realized.output,
                None => return Ok(None),
            },
        };
        outputs.insert(*id, derivation.outputs(output, &outputs));
    }
    Ok(None)
}
