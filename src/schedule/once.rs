//! Each derivation is realized once, however many processes want it at the same time.

use std::borrow::Cow;

use super::{Context, Goals, RealizeError};
use crate::derivation::{Derivation, Layer, Outputs, Step};
use crate::store::{Key, KeyLock};
use crate::tree::TreeHash;

/// What to lock while a derivation is realized: for a layer the same before and after its requests are recorded.
pub fn lock_key(resolved: &Derivation<Outputs>) -> Key {
    match resolved {
        Derivation::Layer(it) if !it.network.is_empty() => {
            Key::new(Derivation::Layer(Layer { network: Vec::new(), ..it.clone() }).key())
        }
        other => Key::new(other.key()),
    }
}

/// Waits until nobody else has this key.
pub fn wait(ctx: &Context<'_>, key: &Key) -> Result<KeyLock, RealizeError> {
    ctx.store.wait_lock(key, ctx.cancel)?.ok_or(RealizeError::Cancelled)
}

/// The derivation with what is recorded for it by now: another process may have built it since it was evaluated.
pub fn refreshed<'a>(
    ctx: &Context<'_>,
    goals: &Goals<'_>,
    resolved: &'a Derivation<Outputs>,
) -> Result<Cow<'a, Derivation<Outputs>>, RealizeError> {
    let Derivation::Layer(layer) = resolved else { return Ok(Cow::Borrowed(resolved)) };
    let runs = layer.steps.iter().any(|step| matches!(step, Step::Run { .. }));
    if !runs || !ctx.options.record {
        return Ok(Cow::Borrowed(resolved));
    }
    match (goals.recorded)(&layer.name)? {
        Some(network) if network != layer.network => {
            Ok(Cow::Owned(Derivation::Layer(Layer { network, ..layer.clone() })))
        }
        _ => Ok(Cow::Borrowed(resolved)),
    }
}

/// The result, if somebody has realized it meanwhile.
pub fn known(
    ctx: &Context<'_>,
    resolved: &Derivation<Outputs>,
    key: &Key,
) -> Result<Option<TreeHash>, RealizeError> {
    match resolved {
        Derivation::Source(source) => Ok(ctx.store.info(&source.tree)?.map(|info| info.hash)),
        _ => Ok(ctx.store.realized(key)?.map(|realized| realized.output)),
    }
}
