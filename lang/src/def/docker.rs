//! Names of images in registries, `docker://[host[:port]/]path[:tag][@digest]`.

use std::fmt;
use std::str::FromStr;

/// The registry of references that name none.
const DEFAULT_HOST: &str = "index.docker.io";
/// What it is called, too.
const DEFAULT_NAME: &str = "docker.io";
/// Where its images are whose names have one part.
const DEFAULT_PREFIX: &str = "library/";
/// The tag of references that have neither tag nor digest.
const DEFAULT_TAG: &str = "latest";
/// Longest path and longest tag, in bytes.
const MAX_PATH: usize = 255;
const MAX_TAG: usize = 128;

/// Which image is asked for: the text after `docker://`, with everything that it leaves out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DockerReference {
    /// Host of the registry, with the port if one is named.
    pub host: String,
    /// Path of the image in the registry.
    pub repository: String,
    /// The tag; there is none where a digest alone names the image.
    pub tag: Option<String>,
    /// sha256 (hex) of the index or manifest.
    pub digest: Option<String>,
}

/// Why a `docker://` reference is not understood.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DockerReferenceError {
    /// Nothing between the slashes, or at all.
    #[error("no image is named: expected for example docker://debian:12")]
    Empty,
    /// Odd characters in the host.
    #[error("`{0}` is not the host of a registry")]
    Host(String),
    /// Not a number, or too high.
    #[error("`{0}` is not a port: expected a number from 1 to 65535")]
    Port(String),
    /// Capitals in the path.
    #[error("`{0}` has capital letters: the path of an image has none")]
    Capitals(String),
    /// Odd characters in the path.
    #[error(
        "`{0}` cannot be part of the path of an image: it takes a-z and 0-9, with `.`, `_`, `__` and `-` between them"
    )]
    Part(String),
    /// A path without end.
    #[error("the path of the image has more than {MAX_PATH} characters")]
    Long,
    /// Odd characters in the tag.
    #[error(
        "`{0}` is not a tag: it takes up to {MAX_TAG} of A-Z, a-z, 0-9, `_`, `.` and `-`, and begins with neither `.` nor `-`"
    )]
    Tag(String),
    /// Another digest. It is not shown: it may be the rest of something with a password.
    #[error("what follows `@` is not a digest: expected sha256: and 64 digits of 0-9 and a-f")]
    Digest,
}

impl FromStr for DockerReference {
    type Err = DockerReferenceError;

    fn from_str(text: &str) -> Result<DockerReference, DockerReferenceError> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(parse_digest(digest)?)),
            None => (text, None),
        };
        // A colon before a slash belongs to the host.
        let path_at = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name.get(path_at..).and_then(|last| last.find(':')) {
            Some(at) => (&name[..path_at + at], Some(parse_tag(&name[path_at + at + 1..])?)),
            None => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (parse_host(first)?, rest),
            _ => (DEFAULT_HOST, name),
        };
        check_path(path)?;
        let prefix = if host == DEFAULT_HOST && !path.contains('/') { DEFAULT_PREFIX } else { "" };
        let tag = tag.or((digest.is_none()).then_some(DEFAULT_TAG));
        Ok(DockerReference {
            host: host.to_owned(),
            repository: format!("{prefix}{path}"),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for DockerReference {
    /// The text after `docker://`, with nothing left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@sha256:{digest}"),
            None => Ok(()),
        }
    }
}

/// Whether what stands before the first slash is a host rather than the first part of a path.
fn is_host(text: &str) -> bool {
    text == "localhost" || text.starts_with('[') || text.contains(['.', ':'])
}

fn parse_host(text: &str) -> Result<&str, DockerReferenceError> {
    let wrong = || DockerReferenceError::Host(text.to_owned());
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or_else(wrong)?;
            address.parse::<core::net::Ipv6Addr>().map_err(|_| wrong())?;
            match rest {
                "" => ("", None),
                rest => ("", Some(rest.strip_prefix(':').ok_or_else(wrong)?)),
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| {
        let fine = label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        fine && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    if !text.starts_with('[') && !host.split('.').all(is_label) {
        return Err(wrong());
    }
    if let Some(port) = port
        && (!port.bytes().all(|b| b.is_ascii_digit()) || !matches!(port.parse::<u16>(), Ok(1..)))
    {
        return Err(DockerReferenceError::Port(port.to_owned()));
    }
    Ok(if text == DEFAULT_NAME { DEFAULT_HOST } else { text })
}

fn check_path(path: &str) -> Result<(), DockerReferenceError> {
    if path.is_empty() {
        return Err(DockerReferenceError::Empty);
    }
    if path.len() > MAX_PATH {
        return Err(DockerReferenceError::Long);
    }
    for part in path.split('/') {
        if part.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(DockerReferenceError::Capitals(part.to_owned()));
        }
        if !is_part(part) {
            return Err(DockerReferenceError::Part(part.to_owned()));
        }
    }
    Ok(())
}

/// Letters and digits, with one separator between them: a dot, one or two `_`, or any number of `-`.
fn is_part(part: &str) -> bool {
    let is_word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let fine = part.bytes().all(|b| is_word(b) || b"._-".contains(&b));
    let mut separators = part.split(|c: char| c.is_ascii_alphanumeric());
    let ends = part.bytes().next().is_some_and(is_word) && part.bytes().last().is_some_and(is_word);
    fine && ends && separators.all(|it| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|b| b == b'-'))
}

fn parse_tag(tag: &str) -> Result<&str, DockerReferenceError> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let fine = tag.len() <= MAX_TAG && tag.bytes().all(|b| is_word(b) || b".-".contains(&b));
    match fine && tag.bytes().next().is_some_and(is_word) {
        true => Ok(tag),
        false => Err(DockerReferenceError::Tag(tag.to_owned())),
    }
}

fn parse_digest(text: &str) -> Result<&str, DockerReferenceError> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    text.strip_prefix("sha256:")
        .filter(|it| it.len() == 64 && it.bytes().all(is_digit))
        .ok_or(DockerReferenceError::Digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let digest = "0123456789abcdef".repeat(4);
        for (text, expected) in [
            ("debian", "index.docker.io/library/debian:latest"),
            ("debian:12", "index.docker.io/library/debian:12"),
            ("docker.io/debian", "index.docker.io/library/debian:latest"),
            ("index.docker.io/debian", "index.docker.io/library/debian:latest"),
            ("user/app:V1.0_a-b", "index.docker.io/user/app:V1.0_a-b"),
            ("app:_x", "index.docker.io/library/app:_x"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app:1", "localhost:5000/app:1"),
            // Without a slash a colon begins a tag.
            ("localhost:5000", "index.docker.io/library/localhost:5000"),
            ("Registry.example/a/b_c/d__e/f--g/h.i", "Registry.example/a/b_c/d__e/f--g/h.i:latest"),
            ("127.0.0.1:5000/app", "127.0.0.1:5000/app:latest"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("[fe80::1]/app", "[fe80::1]/app:latest"),
            ("app@sha256:D", "index.docker.io/library/app@sha256:D"),
            ("registry.example/app:1@sha256:D", "registry.example/app:1@sha256:D"),
        ] {
            let reference: DockerReference = text.replace('D', &digest).parse().unwrap();
            assert_eq!(reference.to_string(), expected.replace('D', &digest), "{text}");
            // What is complete stays what it is.
            assert_eq!(reference.to_string().parse(), Ok(reference));
        }
    }

    #[test]
    fn what_is_refused() {
        use DockerReferenceError::*;
        let digest = |text: &str| format!("a@sha256:{text}");
        for (text, expected) in [
            ("", Empty),
            (":1", Empty),
            ("registry.example/", Empty),
            ("registry.example//a", Part("".into())),
            ("a//b", Part("".into())),
            ("Debian", Capitals("Debian".into())),
            ("a..b", Part("a..b".into())),
            ("a___b", Part("a___b".into())),
            ("-a", Part("-a".into())),
            ("a.", Part("a.".into())),
            ("a b", Part("a b".into())),
            ("ä", Part("ä".into())),
            ("-x.example/a", Host("-x.example".into())),
            ("x..example/a", Host("x..example".into())),
            ("[::g]/a", Host("[::g]".into())),
            ("[::1/a", Host("[::1".into())),
            ("[::1]5/a", Host("[::1]5".into())),
            ("x:0/a", Port("0".into())),
            ("x:65536/a", Port("65536".into())),
            ("x:+1/a", Port("+1".into())),
            ("x:/a", Port("".into())),
            ("a:", Tag("".into())),
            ("a:.x", Tag(".x".into())),
            ("a:1:2", Tag("1:2".into())),
            (&*format!("a:{}", "x".repeat(129)), Tag("x".repeat(129))),
            (&*"a/".repeat(200), Part("".into())),
            (&*"a".repeat(256), Long),
            ("a@", Digest),
            ("a@sha512:00", Digest),
            (&*digest("00"), Digest),
            (&*digest(&"A".repeat(64)), Digest),
            ("user:secret@registry.example/a", Digest),
        ] {
            let expected = if text.len() > 300 { Long } else { expected };
            assert_eq!(text.parse::<DockerReference>(), Err(expected), "{text}");
        }
    }
}
