//! Derivations that the store remembers, and the keys they resolve to when their inputs are realized.

use std::collections::BTreeMap;

use crate::derivation::{Derivation, DrvId, Outputs, canonical_json, closure};
use crate::lock::NetworkEntry;
use crate::store::{self, Key, Store};
use crate::tree::TreeHash;

/// Keeps a derivation, so that later commands can name it by id.
pub fn remember(store: &Store, id: &DrvId, derivation: &Derivation) -> Result<(), store::Error> {
    if store.drv_file(&id.to_string()).exists() {
        return Ok(());
    }
    let text = canonical_json(derivation).map_err(std::io::Error::from)?;
    store.write_drv(&id.to_string(), text.as_bytes())
}

/// Keeps derivations as they are with what their layers have just recorded: their results belong to these. `order`
/// is a closure, inputs first.
pub fn remember_recorded(
    store: &Store,
    derivations: &BTreeMap<DrvId, Derivation>,
    order: &[DrvId],
    recorded: &BTreeMap<String, Vec<NetworkEntry>>,
) -> Result<(), store::Error> {
    let mut renamed: BTreeMap<DrvId, DrvId> = BTreeMap::new();
    for id in order {
        let Some(derivation) = derivations.get(id) else { continue };
        let named = derivation.map(&mut |input, _| {
            Ok::<_, std::convert::Infallible>(renamed.get(input).copied().unwrap_or(*input))
        });
        let Ok(mut derivation) = named;
        if let Derivation::Layer(layer) = &mut derivation
            && let Some(network) = recorded.get(&layer.name)
        {
            layer.network = network.clone();
        }
        let new = derivation.id();
        if new != *id {
            remember(store, &new, &derivation)?;
            renamed.insert(*id, new);
        }
    }
    Ok(())
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

/// What the store knows of where its trees come from.
#[derive(Debug, Default)]
pub struct Origins {
    /// All derivations that it has kept.
    pub derivations: BTreeMap<DrvId, Derivation>,
    /// Their keys, where all inputs were realized once.
    pub keys: BTreeMap<DrvId, Key>,
    /// What they were realized to, whether that is still here or not.
    pub outputs: BTreeMap<DrvId, Outputs>,
}

impl Origins {
    /// Looks through everything that the store has kept. A damaged derivation is as good as none.
    pub fn read(store: &Store) -> Result<Origins, store::Error> {
        let mut origins = Origins::default();
        for id in store.drvs()?.iter().filter_map(|it| it.parse::<DrvId>().ok()) {
            match recall(store, &id) {
                Ok(Some(derivation)) => drop(origins.derivations.insert(id, derivation)),
                Ok(None) | Err(store::Error::Damaged { .. }) => {}
                Err(err) => return Err(err),
            }
        }
        let ids: Vec<DrvId> = origins.derivations.keys().copied().collect();
        for id in closure(&origins.derivations, &ids) {
            let Some(derivation) = origins.derivations.get(&id) else { continue };
            let Ok(resolved) = derivation.resolve(&origins.outputs) else { continue };
            let key = Key::new(resolved.key());
            let output = match derivation {
                Derivation::Source(source) => Some(source.tree),
                _ => store.recorded(&key)?.map(|it| it.output),
            };
            origins.keys.insert(id, key);
            if let Some(output) = output {
                let outputs = derivation.outputs(output, &origins.outputs);
                origins.outputs.insert(id, outputs);
            }
        }
        Ok(origins)
    }

    /// The derivations that were realized to this tree.
    pub fn of(&self, tree: &TreeHash) -> Vec<DrvId> {
        let own = self.outputs.iter().filter(|(_, outputs)| outputs.0.last() == Some(tree));
        own.map(|(id, _)| *id).collect()
    }
}

/// Keys of the fetched bodies that realizing these derivations would ask for.
pub fn bodies<'a>(derivations: impl Iterator<Item = &'a Derivation>) -> Vec<Key> {
    let mut keys = Vec::new();
    for derivation in derivations {
        match derivation {
            Derivation::Bootstrap(it) => {
                keys.extend(it.packages.iter().map(|it| Key::fetched(&it.sha256, it.size)));
            }
            Derivation::Layer(it) => {
                keys.extend(it.network.iter().map(|it| Key::fetched(&it.sha256, it.size)));
            }
            Derivation::Source(_) | Derivation::Fetch(_) | Derivation::Image(_) | Derivation::Run(_) => {}
        }
    }
    keys
}
