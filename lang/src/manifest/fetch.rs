//! `[fetch.NAME]`: files of the network with several places to get them from.

use toml_edit::TableLike;

use super::Reader;
use crate::def::{check_url, is_package_name};
use crate::stmt::{Digest, Spanned};

/// A file that `FETCH @NAME` downloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSource {
    /// Where it is, tried in order; never empty.
    pub urls: Vec<String>,
    /// What it must be; without one the lock pins it.
    pub digest: Option<Digest>,
}

const KEYS: &[&str] = &["url", "urls", "sha256", "blake3"];

impl Reader {
    /// The file `name`; nothing, with errors, if the table does not say what it is.
    pub(super) fn fetch(&mut self, files: &dyn TableLike, name: &str) -> Option<Spanned<FetchSource>> {
        let table = self.table(files, name)?;
        let span = self.span(files.key(name).and_then(|it| it.span()));
        let before = self.problems.len();
        self.only(table, KEYS, "in [fetch]");
        if !is_package_name(name) {
            let message = format!("`{name}` cannot be the name of a file");
            self.bad(message, span, "this name", "use letters, digits, `_` and `-`, with a letter first");
        }
        let urls = match (table.get("url"), table.get("urls")) {
            (Some(_), None) => self.string(table, "url").into_iter().collect(),
            (None, Some(_)) => self.strings(table, "urls", false),
            (Some(_), Some(_)) => {
                let hint = "write all of them into `urls`, the first choice first";
                self.bad("`url` and `urls` are alternatives".to_owned(), span, "has both", hint);
                return None;
            }
            (None, None) => Vec::new(),
        };
        for url in &urls {
            if let Err((message, hint)) = check_url(&url.value) {
                self.bad(message, url.span, "this URL", hint);
            }
        }
        if urls.is_empty() && self.problems.len() == before {
            let hint = "add `urls = [\"https://…\"]`, the first choice first";
            self.bad(format!("the file `{name}` has no URL"), span, "this file", hint);
        }
        let digest = match (self.digest(table, "sha256"), self.digest(table, "blake3")) {
            (Some(_), Some(_)) => {
                let hint = "leave one of them out";
                self.bad("`sha256` and `blake3` are alternatives".to_owned(), span, "has both", hint);
                None
            }
            (Some(sha256), None) => Some(Digest::Sha256(sha256)),
            (None, blake3) => blake3.map(Digest::Blake3),
        };
        let urls = urls.into_iter().map(|it| it.value).collect();
        (self.problems.len() == before).then_some(Spanned { value: FetchSource { urls, digest }, span })
    }
}
