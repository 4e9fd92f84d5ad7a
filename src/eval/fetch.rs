//! FETCH: a URL and what it must give, from the statement or the lock.

use raptor_lang::def::check_url;
use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::source::Span;
use raptor_lang::stmt::{Digest, Spanned};

use super::findings::Findings;
use super::{Failed, Place, Provenance, Unpinned};
use crate::derivation::{CopySource, Derivation, DrvId, Fetch};

impl Findings<'_> {
    /// The file of a FETCH, with the name that it gets in a directory.
    pub(super) fn fetched(
        &mut self,
        url: &Spanned<String>,
        mirrors: &[String],
        digest: Option<&Digest>,
        dest: &str,
        place: &Place,
    ) -> Result<CopySource<DrvId>, Failed> {
        let name = match check_url(&url.value) {
            Ok(name) => name,
            Err((message, hint)) => return Err(self.bad_url(message, hint, url.span, place)),
        };
        if name.is_empty() && dest.ends_with('/') {
            let message = format!("`{}` names no file", url.value);
            let hint = "write the whole destination, with the name that the file is to have";
            return Err(self.bad_url(message, hint, url.span, place));
        }
        let urls: Vec<String> = std::iter::once(&url.value).chain(mirrors).cloned().collect();
        let (digest, size) = match (digest, urls.iter().find_map(|url| self.lock.fetch.get(url))) {
            (Some(digest), _) => (digest.clone(), None),
            (None, Some(pin)) => (Digest::Sha256(pin.sha256.clone()), Some(pin.size)),
            (None, None) => {
                return Err(self.unpinned(Unpinned::File(urls), place.clone()));
            }
        };
        let name = if name.is_empty() { "download" } else { name }.to_owned();
        let fetch = Fetch { name: name.clone(), urls, digest, size };
        let provenance = Provenance { place: Some(place.clone()), ..Provenance::default() };
        Ok(CopySource { name, source: self.add(Derivation::Fetch(fetch), provenance) })
    }

    fn bad_url(&mut self, message: String, hint: &str, span: Span, (_, stack): &Place) -> Failed {
        let mut problem = Diagnostic::new(Code::BadReference, message, span, "this URL").with_hint(hint);
        problem.stack = stack.clone();
        self.error(problem)
    }
}
