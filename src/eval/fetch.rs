//! FETCH: a URL and what it must give, from the statement or the lock.

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
        let (digest, size) = match (digest, self.lock.fetch.get(&url.value)) {
            (Some(digest), _) => (digest.clone(), None),
            (None, Some(pin)) => (Digest::Sha256(pin.sha256.clone()), Some(pin.size)),
            (None, None) => {
                return Err(self.unpinned(Unpinned::File(url.value.clone()), place.clone()));
            }
        };
        let name = if name.is_empty() { "download" } else { name }.to_owned();
        let fetch = Fetch { name: name.clone(), urls: vec![url.value.clone()], digest, size };
        let provenance = Provenance { place: Some(place.clone()), ..Provenance::default() };
        Ok(CopySource { name, source: self.add(Derivation::Fetch(fetch), provenance) })
    }

    fn bad_url(&mut self, message: String, hint: &str, span: Span, (_, stack): &Place) -> Failed {
        let mut problem = Diagnostic::new(Code::BadReference, message, span, "this URL").with_hint(hint);
        problem.stack = stack.clone();
        self.error(problem)
    }
}

/// The file name in a URL, which may be empty; else what is wrong with the URL, and what to do about it.
fn check_url(url: &str) -> Result<&str, (String, &'static str)> {
    let Some((_, rest)) = url.split_once("://") else {
        return Err((format!("`{url}` is no URL"), "write the whole URL, with http:// or https://"));
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    if authority.contains('@') {
        // Without the URL: whoever reads the message need not see the secret.
        return Err((
            "a URL with a user name or password cannot be fetched: it would be written into Raptor.lock and logs"
                .to_owned(),
            "take the part before `@` out, and make the file readable without it or put it into the project",
        ));
    }
    if authority.is_empty() || authority.starts_with(':') {
        return Err((format!("`{url}` has no host"), "write the whole URL"));
    }
    if !url.bytes().all(|b| b.is_ascii_graphic()) {
        return Err((
            format!("`{}` has characters that no URL may have", url.escape_debug()),
            "write spaces and letters beyond ASCII as `%20` and the like",
        ));
    }
    if url.contains('#') {
        return Err((
            format!("`{url}` has a fragment, which servers never see"),
            "take `#` and what follows out",
        ));
    }
    let path = path.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    Ok(if matches!(name, "." | "..") { "" } else { name })
}

#[cfg(test)]
mod tests {
    use super::check_url;

    #[test]
    fn urls() {
        for (url, expected) in [
            ("https://origin.example/a/tool-1.0.tar.gz", Ok("tool-1.0.tar.gz")),
            ("http://origin.example:8080/a?b=/c", Ok("a")),
            ("http://origin.example/a%20b", Ok("a%20b")),
            ("http://origin.example", Ok("")),
            ("http://origin.example?x", Ok("")),
            ("http://origin.example/a/", Ok("")),
            ("http://origin.example/..", Ok("")),
            ("http://origin.example/me@home", Ok("me@home")),
            ("http:///a", Err("`http:///a` has no host")),
            ("http://:80/a", Err("`http://:80/a` has no host")),
            (
                "http://origin.example/a b",
                Err("`http://origin.example/a b` has characters that no URL may have"),
            ),
            (
                "http://origin.example/#a",
                Err("`http://origin.example/#a` has a fragment, which servers never see"),
            ),
        ] {
            assert_eq!(
                check_url(url).map_err(|(message, _)| message),
                expected.map_err(String::from),
                "{url}"
            );
        }
        for url in
            ["https://me:secret@origin.example/a", "https://secret@origin.example", "http://:secret@x/"]
        {
            let (message, hint) = check_url(url).unwrap_err();
            assert!(message.contains("password") && !message.contains("secret") && !hint.contains("secret"));
        }
    }
}
