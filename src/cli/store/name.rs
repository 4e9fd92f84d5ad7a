//! What the command line calls trees, sizes and ages.

use std::path::Path;
use std::time::Duration;

use raptor_lang::program::Parameters;

use crate::cli::errors::CliError;
use crate::cli::project::Project;
use crate::cli::session::Session;
use crate::derivation::DrvId;
use crate::schedule::{self, Origins};
use crate::store::Store;
use crate::tree::TreeHash;

/// Fewest digits that name something by the begin of its hash.
const SHORTEST: usize = 8;

/// The trees that words of the command line mean; all are registered.
pub fn find_all(session: &Session, names: &[&String]) -> Result<Vec<TreeHash>, CliError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let store = session.store()?;
    names.iter().map(|name| find(session, &store, name)).collect()
}

/// The tree that a word of the command line means; it is registered.
pub fn find(session: &Session, store: &Store, name: &str) -> Result<TreeHash, CliError> {
    if let Some(hash) = by_path(store, name).or_else(|| name.parse().ok())
        && store.info(&hash)?.is_some()
    {
        return Ok(hash);
    }
    if let Ok(id) = name.parse::<DrvId>() {
        let origins = Origins::read(store)?;
        let output = origins.outputs.get(&id).and_then(|it| it.0.last());
        return match output {
            Some(hash) if store.info(hash)?.is_some() => Ok(*hash),
            _ => Err(CliError::Other(format!("the store has neither a tree nor a result {name}"))),
        };
    }
    if by_path(store, name).is_some() {
        return Err(CliError::Other(format!("the store has no tree {name}")));
    }
    if is_prefix(name) {
        let trees = store.list()?;
        let found: Vec<_> = trees.iter().filter(|(it, _)| it.hash.to_string().starts_with(name)).collect();
        match found.as_slice() {
            [(info, _)] => return Ok(info.hash),
            [] => {}
            more => {
                let more = more.len();
                return Err(CliError::Other(format!("{more} trees have a hash that begins with {name}")));
            }
        }
    }
    target(session, store, name)
}

/// Whether a word may be the begin of a hash.
pub fn is_prefix(name: &str) -> bool {
    name.len() >= SHORTEST && name.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// The result of a module or job, as it would be reused now.
fn target(session: &Session, store: &Store, name: &str) -> Result<TreeHash, CliError> {
    let names = [name.to_owned()];
    let project = Project::open(session, &names)?;
    let (evaluated, ids) = project.derivations(session, &names, &Parameters::new())?;
    let order = evaluated.evaluator.closure(&ids);
    let id = ids.first().ok_or_else(|| CliError::Other(format!("{name} has no derivation")))?;
    let key = schedule::key_of(store, &evaluated.evaluator.derivations, &order, id)?;
    let realized = key.map(|key| store.realized(&key)).transpose()?.flatten();
    realized.map(|it| it.output).ok_or_else(|| CliError::Other(format!("{name} is not built")))
}

/// The tree that a path leads into, registered or not.
pub fn by_path(store: &Store, name: &str) -> Option<TreeHash> {
    let path = std::path::absolute(name).ok()?;
    let below =
        |dir: &Path| path.strip_prefix(dir).ok()?.components().next()?.as_os_str().to_str()?.parse().ok();
    store.trees().iter().find_map(|dir| below(dir))
}

/// A size such as 500M, in bytes; units are powers of 1024.
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "" | "B" => 0,
        "k" | "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        other => return Err(format!("unknown unit `{other}`; known are K, M, G and T")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size"))?;
    number.checked_mul(1 << unit).ok_or_else(|| "this is too large".to_owned())
}

/// An age or another span of time, such as 30d.
pub fn age(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text.get(digits.len()..).unwrap_or_default() {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 24 * 3600,
        "w" => 7 * 24 * 3600,
        "" => return Err("a time needs a unit: s, m, h, d or w".to_owned()),
        other => return Err(format!("unknown unit `{other}`; known are s, m, h, d and w")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no time"))?;
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(|| "this is too long".to_owned())
}

/// Bytes in words.
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_ages() {
        assert_eq!((size("17"), size("3K"), size("2G")), (Ok(17), Ok(3072), Ok(2 << 30)));
        for wrong in ["", "G", "1X", "-1", "99999999999T", "1.5G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
        assert_eq!((age("90s"), age("2w")), (Ok(Duration::from_secs(90)), Ok(Duration::from_secs(1209600))));
        for wrong in ["", "5", "d", "1y", "99999999999999999999w"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
