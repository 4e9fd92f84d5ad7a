//! Names of Debian bases, `debian://SUITE[?variant=…]`; what they come to is in `spec/debian.md`.

use std::fmt;
use std::str::FromStr;

/// Which base is asked for: the text after `debian://`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DebianRequest {
    /// Suite or code name, such as `trixie` or `stable`.
    pub suite: String,
    /// Which packages.
    pub variant: DebianVariant,
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
    #[error("unknown parameter `{0}`: the only parameter is `variant`")]
    Parameter(String),
    /// `?variant=x`
    #[error("unknown variant `{0}`: expected `minbase` (the default) or `apt`")]
    Variant(String),
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
        let fine = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        if suite.starts_with('-') || !suite.bytes().all(fine) {
            return Err(DebianRequestError::Suite(suite.to_string()));
        }
        let mut variant = None;
        for parameter in parameters.split('&').filter(|it| !it.is_empty()) {
            match parameter.split_once('=').unwrap_or((parameter, "")) {
                ("variant", _) if variant.is_some() => {
                    return Err(DebianRequestError::Repeated("variant".to_string()));
                }
                ("variant", "minbase") => variant = Some(DebianVariant::Minbase),
                ("variant", "apt") => variant = Some(DebianVariant::Apt),
                ("variant", other) => return Err(DebianRequestError::Variant(other.to_string())),
                (other, _) => return Err(DebianRequestError::Parameter(other.to_string())),
            }
        }
        Ok(DebianRequest { suite: suite.to_string(), variant: variant.unwrap_or_default() })
    }
}

impl fmt::Display for DebianRequest {
    /// The text after `debian://`, in its shortest form.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.suite)?;
        match self.variant {
            DebianVariant::Minbase => Ok(()),
            DebianVariant::Apt => f.write_str("?variant=apt"),
        }
    }
}
