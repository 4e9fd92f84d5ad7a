//! Names of Debian bases, `debian://SUITE[?PARAMETER&…]`; what they come to is in `spec/debian.md`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Which base is asked for: the text after `debian://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DebianRequest {
    /// Suite or code name, such as `trixie` or `stable`, or a distribution of Raptor.toml.
    pub suite: String,
    /// Which packages.
    pub variant: DebianVariant,
    /// Packages beside those of the variant: names, each with the suite to take it from if there is one, `NAME/SUITE`.
    pub include: BTreeSet<String>,
    /// Components instead of the usual ones; empty for these.
    pub components: BTreeSet<String>,
    /// Further suites, as written: `updates`, `security`.
    pub suites: BTreeSet<String>,
}

/// Which packages a base starts from; all that they depend on comes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DebianVariant {
    /// `Essential: yes`, `Priority: required` and apt.
    #[default]
    Minbase,
    /// `Essential: yes` and apt.
    Apt,
}

/// Why a `debian://` reference is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DebianRequestError {
    /// `debian://`
    #[error("no suite is named: expected for example debian://trixie")]
    EmptySuite,
    /// Odd characters in the suite.
    #[error("`{0}` cannot be a Debian suite: only lower-case letters, digits and `-` are allowed")]
    Suite(String),
    /// `?x=…`
    #[error("unknown parameter `{0}`: expected `components`, `include`, `suites` or `variant`")]
    Parameter(String),
    /// `?arch=…`
    #[error("a base cannot choose its architecture: amd64 is the only one that is built")]
    Architecture,
    /// `?variant=x`
    #[error("unknown variant `{0}`: expected `minbase` (the default) or `apt`")]
    Variant(String),
    /// `?include=`
    #[error("`{0}` names nothing: expected a list with commas")]
    Empty(String),
    /// An odd word in a list.
    #[error("`{word}` cannot be {what}")]
    Word {
        /// As written.
        word: String,
        /// What it should be.
        what: &'static str,
    },
    /// A parameter twice.
    #[error("the parameter `{0}` is given more than once")]
    Repeated(String),
}

impl FromStr for DebianRequest {
    type Err = DebianRequestError;

    fn from_str(text: &str) -> Result<DebianRequest, DebianRequestError> {
        let (suite, parameters) = text.split_once('?').unwrap_or((text, ""));
        if suite.is_empty() {
            return Err(DebianRequestError::EmptySuite);
        }
        if !is_debian_suite(suite) {
            return Err(DebianRequestError::Suite(suite.to_string()));
        }
        let mut request = DebianRequest { suite: suite.to_string(), ..DebianRequest::default() };
        let mut seen = BTreeSet::new();
        for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if !seen.insert(name) {
                return Err(DebianRequestError::Repeated(name.to_string()));
            }
            let list = |what, fine: fn(&str) -> bool| words(name, value, what, fine);
            match (name, value) {
                ("variant", "minbase") => request.variant = DebianVariant::Minbase,
                ("variant", "apt") => request.variant = DebianVariant::Apt,
                ("variant", other) => return Err(DebianRequestError::Variant(other.to_string())),
                ("include", _) => request.include = list("the name of a package", is_include)?,
                ("components", _) => request.components = list("a component", is_debian_component)?,
                ("suites", _) => request.suites = list("a suite, such as `updates`", is_debian_suite)?,
                ("arch" | "architecture", _) => return Err(DebianRequestError::Architecture),
                (other, _) => return Err(DebianRequestError::Parameter(other.to_string())),
            }
        }
        Ok(request)
    }
}

fn words(
    name: &str,
    value: &str,
    what: &'static str,
    fine: fn(&str) -> bool,
) -> Result<BTreeSet<String>, DebianRequestError> {
    let mut words = BTreeSet::new();
    for word in value.split(',').filter(|it| !it.is_empty()) {
        if !fine(word) {
            return Err(DebianRequestError::Word { word: word.to_string(), what });
        }
        words.insert(word.to_string());
    }
    if words.is_empty() { Err(DebianRequestError::Empty(name.to_string())) } else { Ok(words) }
}

/// Lower-case letters, digits and `-`, for suites and for distributions of Raptor.toml.
pub fn is_debian_suite(text: &str) -> bool {
    let fine = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(fine)
}

/// A component such as `main` or `updates/main`.
pub fn is_debian_component(text: &str) -> bool {
    let fine = |it: u8| it.is_ascii_alphanumeric() || b"-_.".contains(&it);
    text.split('/').all(|part| !matches!(part, "" | "." | "..") && part.bytes().all(fine))
}

/// A package name (Debian policy §5.6.1), perhaps with a suite behind a slash.
fn is_include(text: &str) -> bool {
    let (name, suite) = match text.split_once('/') {
        Some((name, suite)) => (name, Some(suite)),
        None => (text, None),
    };
    let fine = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || b"+-.".contains(&it);
    let first = name.bytes().next().is_some_and(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
    first && name.bytes().all(fine) && suite.is_none_or(is_debian_suite)
}

impl fmt::Display for DebianRequest {
    /// The text after `debian://`, in its shortest form: what means the same is the same text.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suite)?;
        let mut separator = '?';
        for (name, words) in
            [("components", &self.components), ("include", &self.include), ("suites", &self.suites)]
        {
            if !words.is_empty() {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                write!(f, "{separator}{name}={}", words.join(","))?;
                separator = '&';
            }
        }
        match self.variant {
            DebianVariant::Minbase => Ok(()),
            DebianVariant::Apt => write!(f, "{separator}variant=apt"),
        }
    }
}
