//! What FETCH downloads: the URL of the statement, or those that Raptor.toml has for a name.

use std::path::Path;

use crate::diag::{Code, Diagnostic};
use crate::stmt::{Digest, Spanned};
use crate::world::World;

/// Where a file is and what it must be.
pub(super) struct Source {
    pub(super) url: Spanned<String>,
    pub(super) mirrors: Vec<String>,
    pub(super) digest: Option<Digest>,
}

/// The source that a statement in the directory `from` means; its own digest counts before that of Raptor.toml.
pub(super) fn source(
    world: &dyn World,
    from: &Path,
    url: Spanned<String>,
    digest: Option<Digest>,
) -> Result<Source, Diagnostic> {
    let Some(name) = url.value.strip_prefix('@') else {
        return Ok(Source { url, mirrors: Vec::new(), digest });
    };
    let found = world.fetch(name, from);
    let split = found.and_then(|it| {
        let mut urls = it.urls.into_iter();
        Some((urls.next()?, urls.collect(), it.digest))
    });
    match split {
        Some((first, mirrors, known)) => {
            let url = Spanned { value: first, span: url.span };
            Ok(Source { url, mirrors, digest: digest.or(known) })
        }
        None => {
            let message = format!("Raptor.toml has no [fetch.{name}]");
            let problem = Diagnostic::new(Code::BadReference, message, url.span, "this file");
            Err(problem.with_hint(format!("add `[fetch.{name}]` with `urls = [\"https://…\"]`")))
        }
    }
}
