//! Which Debian mirror bytes are fetched from: a setting, the environment, else what the host's own apt uses.
//!
//! Parsing of apt's sources is pure; only [`discover`] reads files, below `/etc/apt`.

use std::path::{Path, PathBuf};

use fs_err as fs;

/// Suites that name Debian itself, so that the mirror of another distribution is not taken for a Debian mirror.
const SUITES: &[&str] = &[
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
];

/// A Debian archive: the directory that holds `dists/` and `pool/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// `http` or `https` URL without trailing slash.
    pub url: String,
}

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// A setting is not a URL that we can fetch from.
    #[error("{origin}: `{url}` is no Debian mirror: expected a URL such as http://mirror.example/debian")]
    Invalid {
        /// Where it was set.
        origin: String,
        /// As it was written.
        url: String,
    },
    /// Nobody names one.
    #[error(
        "no mirror of Debian's security updates is known: neither a setting nor the apt sources of this machine name \
         one; set `security-mirror = \"http://mirror.example/debian-security\"` in the `[raptor]` table of \
         Raptor.toml, or the environment variable RAPTOR_DEBIAN_SECURITY_MIRROR"
    )]
    NoSecurity,
    /// Nobody names one.
    #[error(
        "no Debian mirror is known: neither a setting nor the apt sources of this machine name one; \
         set `mirror = \"http://mirror.example/debian\"` in the `[raptor]` table of Raptor.toml, \
         or the environment variable RAPTOR_DEBIAN_MIRROR"
    )]
    Unknown,
    /// An apt sources file cannot be read; the message names it.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a mirror has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MirrorKind {
    /// Suites and their updates.
    Main,
    /// Security updates, `SUITE-security`.
    Security,
}

impl MirrorKind {
    /// The environment variable that names it.
    pub fn variable(self) -> &'static str {
        match self {
            MirrorKind::Main => "RAPTOR_DEBIAN_MIRROR",
            MirrorKind::Security => "RAPTOR_DEBIAN_SECURITY_MIRROR",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            MirrorKind::Main => "Raptor.toml, raptor.mirror",
            MirrorKind::Security => "Raptor.toml, raptor.security-mirror",
        }
    }

    /// Whether a suite is one that is there, so that the mirror of another distribution is not taken for Debian's.
    fn has(self, suite: &str) -> bool {
        match self {
            MirrorKind::Main => SUITES.contains(&suite),
            MirrorKind::Security => suite.strip_suffix("-security").is_some_and(|it| SUITES.contains(&it)),
        }
    }
}

/// The mirror to fetch from: `setting` (Raptor.toml), else `env` ([`MirrorKind::variable`]), else the first fitting
/// entry of this machine's apt sources.
pub fn discover(kind: MirrorKind, setting: Option<&str>, env: Option<&str>) -> Result<Mirror, MirrorError> {
    for (origin, value) in [(kind.setting(), setting), (kind.variable(), env)] {
        if let Some(url) = value {
            return Mirror::new(url)
                .ok_or_else(|| MirrorError::Invalid { origin: origin.to_string(), url: url.to_string() });
        }
    }
    from_apt(kind, &apt_sources(Path::new("/etc/apt"))?).ok_or(match kind {
        MirrorKind::Main => MirrorError::Unknown,
        MirrorKind::Security => MirrorError::NoSecurity,
    })
}

/// The mirror of the first entry that is of Debian and has `main`; `sources` are file names and texts in apt's order.
pub fn from_apt(kind: MirrorKind, sources: &[(PathBuf, String)]) -> Option<Mirror> {
    sources.iter().find_map(|(path, text)| match path.extension().and_then(|it| it.to_str()) {
        Some("sources") => from_deb822(kind, text),
        _ => text.lines().find_map(|line| from_line(kind, line)),
    })
}

impl Mirror {
    /// Checks a URL and drops its trailing slashes.
    pub fn new(url: &str) -> Option<Mirror> {
        let url = url.trim().trim_end_matches('/');
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"))?;
        let plain = url.bytes().all(|it| it.is_ascii_graphic() && !b"$[]\"'<>\\#?".contains(&it));
        (plain && !rest.is_empty() && !rest.starts_with('/')).then(|| Mirror { url: url.to_string() })
    }

    /// URL of a file of the archive.
    pub fn file(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }
}

/// `sources.list`, then the parts sorted by name, as apt reads them; files that are missing count as empty.
fn apt_sources(dir: &Path) -> Result<Vec<(PathBuf, String)>, MirrorError> {
    let mut paths = vec![dir.join("sources.list")];
    if let Ok(entries) = fs::read_dir(dir.join("sources.list.d")) {
        let mut parts = entries.map(|it| it.map(|it| it.path())).collect::<Result<Vec<_>, _>>()?;
        parts.retain(|it| it.extension().is_some_and(|it| it == "list" || it == "sources"));
        parts.sort();
        paths.extend(parts);
    }
    let mut sources = Vec::new();
    for path in paths {
        match fs::read(&path) {
            Ok(bytes) => sources.push((path, String::from_utf8_lossy(&bytes).into_owned())),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => {}
            Err(err) => return Err(err.into()),
        }
    }
    Ok(sources)
}

/// One-line style: `deb [ options ] URI suite component…`.
fn from_line(kind: MirrorKind, line: &str) -> Option<Mirror> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb").filter(|it| it.starts_with([' ', '\t']))?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    if is_debian(kind, suite, words) { Mirror::new(uri) } else { None }
}

/// Deb822 style: several URIs, suites and components in one paragraph.
fn from_deb822(kind: MirrorKind, text: &str) -> Option<Mirror> {
    let paragraphs = text.parse::<deb822_fast::Deb822>().ok()?;
    paragraphs.iter().find_map(|entry| {
        let words = |name| entry.get(name).unwrap_or_default().split_whitespace();
        let enabled = !words("Enabled").any(|it| ["no", "false", "off", "0"].contains(&it));
        let binary = words("Types").any(|it| it == "deb");
        if enabled && binary && words("Suites").any(|it| is_debian(kind, it, words("Components"))) {
            words("URIs").find_map(Mirror::new)
        } else {
            None
        }
    })
}

fn is_debian<'a>(kind: MirrorKind, suite: &str, mut components: impl Iterator<Item = &'a str>) -> bool {
    kind.has(suite) && components.any(|it| it == "main")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], expected: Option<&str>) {
        let files: Vec<_> =
            files.iter().map(|(name, text)| (PathBuf::from(name), text.to_string())).collect();
        assert_eq!(from_apt(MirrorKind::Main, &files).map(|it| it.url).as_deref(), expected, "{files:?}");
    }

    #[test]
    fn apt_sources() {
        // One-line style; trailing slash, options, comments.
        check(
            &[("a.list", "deb http://mirror.example/debian/ bookworm main\n")],
            Some("http://mirror.example/debian"),
        );
        check(
            &[(
                "sources.list",
                "# x\ndeb [ arch=amd64 signed-by=/k.gpg ] https://mirror.example/d trixie main contrib # y",
            )],
            Some("https://mirror.example/d"),
        );
        // Security, updates, other distributions, sources, flat repositories and foreign schemes are not it.
        for line in [
            "deb http://mirror.example/debian-security bookworm-security main",
            "deb http://mirror.example/debian-security bullseye/updates main",
            "deb http://mirror.example/debian bookworm-updates main",
            "deb http://mirror.example/ubuntu noble main",
            "deb-src http://mirror.example/debian bookworm main",
            "deb http://mirror.example/debian bookworm contrib",
            "deb http://mirror.example/debian ./",
            "deb cdrom:[x]/ bookworm main",
            "deb mirror+file:/etc/mirrors bookworm main",
            "#deb http://mirror.example/debian bookworm main",
            "deb [ broken http://mirror.example/debian bookworm main",
            "debhttp://mirror.example/debian bookworm main",
            "deb",
        ] {
            check(&[("x.list", line)], None);
        }
        let security = |line: &str| {
            let files = [(PathBuf::from("x.list"), line.to_owned())];
            from_apt(MirrorKind::Security, &files).map(|it| it.url)
        };
        let line = "deb http://mirror.example/debian-security bookworm-security main";
        assert_eq!(security(line).as_deref(), Some("http://mirror.example/debian-security"));
        assert_eq!(security("deb http://mirror.example/debian bookworm main"), None);
        assert_eq!(security("deb http://mirror.example/ubuntu noble-security main"), None);
        // Deb822; the first fitting paragraph and URI count.
        let text = "# c\nTypes: deb\nURIs: http://mirror.example/sec\nSuites: trixie-security\nComponents: main\n\n\
                    Types: deb-src deb\nURIs: file:/x\n http://mirror.example/debian/\nSuites: trixie-updates trixie\n\
                    Components: contrib main\n";
        check(&[("debian.sources", text)], Some("http://mirror.example/debian"));
        check(&[("debian.sources", &format!("{text}Enabled: no\n"))], None);
        check(&[("debian.sources", "no deb822 at all")], None);
        // Files are read in the given order.
        check(
            &[("sources.list", ""), ("b.list", "deb http://b.mirror.example sid main"), ("c.sources", text)],
            Some("http://b.mirror.example"),
        );
    }

    #[test]
    fn settings() {
        assert_eq!(
            discover(MirrorKind::Main, Some("http://mirror.example/d//"), Some("x")).unwrap().url,
            "http://mirror.example/d"
        );
        assert_eq!(
            discover(MirrorKind::Main, None, Some("https://mirror.example")).unwrap().url,
            "https://mirror.example"
        );
        for bad in
            ["", "mirror.example/debian", "ftp://mirror.example", "http://", "http:///x", "http://a b/c"]
        {
            let err = discover(MirrorKind::Main, Some(bad), None).unwrap_err().to_string();
            assert!(err.contains("raptor.mirror") && err.contains(&format!("`{bad}`")), "{err}");
        }
        assert!(MirrorError::Unknown.to_string().contains("RAPTOR_DEBIAN_MIRROR"));
        let env = Some("http://mirror.example/sec/");
        assert_eq!(discover(MirrorKind::Security, None, env).unwrap().url, "http://mirror.example/sec");
        let err = discover(MirrorKind::Security, Some("x"), env).unwrap_err().to_string();
        assert!(err.contains("raptor.security-mirror"), "{err}");
    }
}
