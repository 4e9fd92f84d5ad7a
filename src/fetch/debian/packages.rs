//! Package indices: which index of a suite to read, and a parser that borrows from its 50 MB of text.

use std::io::Read;

use super::release::{IndexFile, Release, is_flat, is_sha256};

/// The architecture we build for.
pub const ARCHITECTURE: &str = "amd64";
/// More than this is no package index; guards against compression bombs.
const MAX_SIZE: u64 = 1 << 30;

/// One binary package, as far as a bootstrap needs to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Package<'a> {
    /// Name.
    pub name: &'a str,
    /// Version, with epoch and revision.
    pub version: &'a str,
    /// `amd64` or `all`.
    pub architecture: &'a str,
    /// `Essential: yes`.
    pub essential: bool,
    /// How much the distribution wants it.
    pub priority: Priority,
    /// `Depends`, unparsed.
    pub depends: &'a str,
    /// `Pre-Depends`, unparsed.
    pub pre_depends: &'a str,
    /// `Provides`, unparsed.
    pub provides: &'a str,
    /// `Conflicts`, unparsed.
    pub conflicts: &'a str,
    /// `Breaks`, unparsed.
    pub breaks: &'a str,
    /// Path relative to the mirror.
    pub path: &'a str,
    /// sha256 (hex) of the file.
    pub sha256: &'a str,
    /// Size in bytes.
    pub size: u64,
    /// Number of the archive that lists it.
    pub archive: usize,
    /// How much that archive counts.
    pub rank: Rank,
}

/// How much an archive counts, least first: a package of a higher one is taken whatever its version, as apt does
/// without preferences of the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// `NotAutomatic`.
    OnRequest,
    /// `NotAutomatic` and `ButAutomaticUpgrades`.
    Upgrades,
    /// All others.
    #[default]
    Usual,
}

/// `Priority`, highest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// The system does not work without it.
    Required,
    /// One would miss it.
    Important,
    /// Part of a text-mode system.
    Standard,
    /// All others.
    #[default]
    Optional,
}

/// An index file of a suite and how to read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// Path relative to the mirror.
    pub path: String,
    /// Digest and size of the file at `path`.
    pub file: IndexFile,
    /// How it is compressed.
    pub compression: Compression,
}

/// How an index file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// xz
    Xz,
    /// gzip
    Gzip,
    /// Not at all.
    None,
}

/// What is wrong with a package index.
#[derive(Debug, thiserror::Error)]
pub enum PackagesError {
    /// The suite does not offer one.
    #[error("it has no component `{component}`; there are {}", known.join(", "))]
    NoComponent {
        /// What was asked for.
        component: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It is for other architectures.
    #[error("it has no packages for {ARCHITECTURE}, the only architecture that is built; it has {}", known.join(", "))]
    NoArchitecture {
        /// What there is.
        known: Vec<String>,
    },
    /// It should offer one, but does not.
    #[error("it names no package index{} for {ARCHITECTURE}", of.as_ref().map_or(String::new(), |it| format!(" of {it}")))]
    NoIndex {
        /// The component, if there are any.
        of: Option<String>,
    },
    /// It cannot be decompressed.
    #[error("it cannot be decompressed: {0}")]
    Decompress(#[source] std::io::Error),
    /// It is absurdly large.
    #[error("it is larger than {MAX_SIZE} bytes")]
    TooLarge,
    /// It is not UTF-8.
    #[error("it is not UTF-8 text")]
    Encoding,
    /// A paragraph without a field that each package has.
    #[error("package `{package}` has no valid field `{field}`")]
    Field {
        /// Name of the package, or empty.
        package: String,
        /// Name of the field.
        field: &'static str,
    },
}

/// All indices of packages of these components that we can install.
pub fn indices(suite: &str, components: &[String], release: &Release) -> Result<Vec<Index>, PackagesError> {
    if is_flat(suite) {
        let found = index(&directory(suite), "", release);
        return Ok(vec![found.ok_or(PackagesError::NoIndex { of: None })?]);
    }
    let dists = directory(suite);
    let mut found = Vec::new();
    for component in components {
        let index = |architecture| index(&dists, &format!("{component}/binary-{architecture}/"), release);
        match index(ARCHITECTURE) {
            Some(it) => found.push(it),
            None => return Err(missing(component, release)),
        }
        if release.lists_all_apart {
            found.extend(index("all"));
        }
    }
    Ok(found)
}

/// Directory of a Release file relative to the mirror: empty, or with `/` at its end.
pub fn directory(suite: &str) -> String {
    match suite {
        "/" | "./" => String::new(),
        _ if is_flat(suite) => suite.to_owned(),
        _ => format!("dists/{suite}/"),
    }
}

fn missing(component: &str, release: &Release) -> PackagesError {
    // Some name their components with a directory, as in `updates/main`.
    let is_known = |it: &String| it == component || it.ends_with(&format!("/{component}"));
    match release.components.iter().any(is_known) {
        false => {
            PackagesError::NoComponent { component: component.to_owned(), known: release.components.clone() }
        }
        true if release.architectures.iter().all(|it| it != ARCHITECTURE) => {
            PackagesError::NoArchitecture { known: release.architectures.clone() }
        }
        true => PackagesError::NoIndex { of: Some(component.to_owned()) },
    }
}

/// The best compressed index in a directory of a suite.
fn index(base: &str, dir: &str, release: &Release) -> Option<Index> {
    let kinds = [
        ("Packages.xz", Compression::Xz),
        ("Packages.gz", Compression::Gzip),
        ("Packages", Compression::None),
    ];
    kinds.into_iter().find_map(|(name, compression)| {
        let key = format!("{dir}{name}");
        let file = release.files.get(&key).or_else(|| release.files.get(&format!("./{key}")))?;
        // By digest the file stays what the Release file says, even while the mirror is updated.
        let path = match release.by_hash {
            true => format!("{base}{dir}by-hash/SHA256/{}", file.sha256),
            false => format!("{base}{dir}{name}"),
        };
        Some(Index { path, file: file.clone(), compression })
    })
}

/// The text of an index.
pub fn decompress(bytes: &[u8], compression: Compression) -> Result<String, PackagesError> {
    let mut text = Vec::new();
    let result = match compression {
        Compression::Xz => liblzma::read::XzDecoder::new(bytes).take(MAX_SIZE).read_to_end(&mut text),
        Compression::Gzip => flate2::read::MultiGzDecoder::new(bytes).take(MAX_SIZE).read_to_end(&mut text),
        Compression::None => bytes.take(MAX_SIZE).read_to_end(&mut text),
    };
    result.map_err(PackagesError::Decompress)?;
    if text.len() as u64 == MAX_SIZE {
        return Err(PackagesError::TooLarge);
    }
    String::from_utf8(text).map_err(|_| PackagesError::Encoding)
}

/// All packages of an index that are for our architecture, in its order.
pub fn parse(text: &str) -> Result<Vec<Package<'_>>, PackagesError> {
    let mut packages = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (paragraph, tail) = rest.split_once("\n\n").unwrap_or((rest, ""));
        if !paragraph.trim().is_empty() {
            packages.extend(parse_one(paragraph)?);
        }
        rest = tail;
    }
    Ok(packages)
}

fn parse_one(paragraph: &str) -> Result<Option<Package<'_>>, PackagesError> {
    let mut package = Package::default();
    let mut size = None;
    let mut rest = paragraph;
    while let Some((name, value, tail)) = next_field(rest) {
        rest = tail;
        match name {
            "Package" => package.name = value,
            "Version" => package.version = value,
            "Architecture" => package.architecture = value,
            "Essential" => package.essential = value == "yes",
            "Priority" => package.priority = Priority::parse(value),
            "Depends" => package.depends = value,
            "Pre-Depends" => package.pre_depends = value,
            "Provides" => package.provides = value,
            "Conflicts" => package.conflicts = value,
            "Breaks" => package.breaks = value,
            // Directories without `pool` often say it this way.
            "Filename" => package.path = value.trim_start_matches("./"),
            "SHA256" => package.sha256 = value,
            "Size" => size = value.parse().ok(),
            _ => {}
        }
    }
    // Indices of directories have all architectures.
    if !["", "all", ARCHITECTURE].contains(&package.architecture) {
        return Ok(None);
    }
    let bad = |field| PackagesError::Field { package: package.name.to_string(), field };
    package.size = size.ok_or_else(|| bad("Size"))?;
    let checks = [
        ("Package", is_name(package.name)),
        ("Version", is_version(package.version)),
        ("Architecture", !package.architecture.is_empty()),
        ("Filename", is_path(package.path)),
        ("SHA256", is_sha256(package.sha256)),
    ];
    match checks.iter().find(|(_, fine)| !fine) {
        Some((field, _)) => Err(bad(field)),
        None => Ok(Some(package)),
    }
}

/// Splits off the first field with its continuation lines: name, trimmed value, rest.
fn next_field(text: &str) -> Option<(&str, &str, &str)> {
    let bytes = text.as_bytes();
    let mut end = 0;
    loop {
        end = match bytes.get(end..)?.iter().position(|it| *it == b'\n') {
            Some(line) => end + line + 1,
            None => bytes.len(),
        };
        if !matches!(bytes.get(end), Some(b' ' | b'\t')) {
            break;
        }
    }
    if end == 0 {
        return None;
    }
    let (field, rest) = text.split_at(end);
    let (name, value) = field.split_once(':').unwrap_or(("", field));
    Some((name, value.trim(), rest))
}

impl Priority {
    fn parse(text: &str) -> Priority {
        match text {
            "required" => Priority::Required,
            "important" => Priority::Important,
            "standard" => Priority::Standard,
            _ => Priority::Optional,
        }
    }
}

/// Names and versions become parts of file names, so their alphabet (Debian policy §5.6) matters.
fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    first && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.".contains(&it))
}

fn is_version(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|it| it.is_ascii_alphanumeric());
    first && text.bytes().all(|it| it.is_ascii_alphanumeric() || b"+-.~:_".contains(&it))
}

fn is_path(text: &str) -> bool {
    let fine = |part: &str| !matches!(part, "" | "." | "..");
    text.split('/').all(fine) && text.bytes().all(|it| it.is_ascii_graphic() && !b"?#\\".contains(&it))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Write;

    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn text() -> String {
        format!(
            "Package: a\nVersion: 1:2.0~rc1-3+b1\nEssential: yes\nArchitecture: amd64\nDescription: x: y\n long\n .\n \
             more\nDepends: b (>= 1),\n c | d\nPriority: required\nSize: 12\nSHA256: {SHA}\n\
             Filename: pool/main/a/a/a_2.0~rc1-3+b1_amd64.deb\n\n\n\
             Package: lib-b++\nArchitecture: all\nVersion: 3\nPre-Depends: a\nProvides: p (= 1)\n\
             Filename: pool/main/b.deb\nSize: 0\nSHA256: {SHA}"
        )
    }

    #[test]
    fn paragraphs() {
        let text = text();
        let packages = parse(&text).unwrap();
        let [a, b] = &packages[..] else { panic!("{packages:?}") };
        assert_eq!((a.name, a.version, a.architecture, a.size), ("a", "1:2.0~rc1-3+b1", "amd64", 12));
        assert_eq!((a.essential, a.priority, a.depends), (true, Priority::Required, "b (>= 1),\n c | d"));
        assert_eq!(
            (b.name, b.pre_depends, b.provides, b.priority),
            ("lib-b++", "a", "p (= 1)", Priority::Optional)
        );
        assert!(!b.essential);
        assert_eq!(parse("\n").unwrap(), []);
        // Those of other architectures are not ours.
        assert_eq!(parse(&text.replace("e: amd64", "e: i386")).unwrap().len(), 1);
        for (from, to, field) in [
            ("Package: a\n", "", "Package"),
            ("Package: a\n", "Package: ../a\n", "Package"),
            ("1:2.0", "1/2.0", "Version"),
            ("Architecture: amd64\n", "", "Architecture"),
            ("Size: 12", "Size: -1", "Size"),
            ("pool/main/a/a/a", "pool/main/../a", "Filename"),
            ("pool/main/a/a/a", "/etc/a", "Filename"),
            ("SHA256: e", "SHA256: x", "SHA256"),
        ] {
            let err = parse(&text.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(err.contains(&format!("`{field}`")), "{from}: {err}");
        }
    }

    #[test]
    fn compressions() {
        let text = text();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(text.as_bytes()).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(text.as_bytes()).unwrap();
        let (xz, gz) = (xz.finish().unwrap(), gz.finish().unwrap());
        assert_eq!(decompress(&xz, Compression::Xz).unwrap(), text);
        assert_eq!(decompress(&gz, Compression::Gzip).unwrap(), text);
        assert_eq!(decompress(text.as_bytes(), Compression::None).unwrap(), text);
        assert!(decompress(&gz, Compression::Xz).is_err());
        assert!(decompress(&xz[..xz.len() / 2], Compression::Xz).is_err());
        assert!(matches!(decompress(b"\xff", Compression::None), Err(PackagesError::Encoding)));
    }

    #[test]
    fn choice_of_index() {
        let file = |size| IndexFile { sha256: SHA.to_string(), size };
        let mut release = Release {
            suite: "stable".to_string(),
            codename: "trixie".to_string(),
            date: 0,
            valid_until: None,
            components: vec!["main".to_string()],
            architectures: vec!["arm64".to_string()],
            not_automatic: false,
            automatic_upgrades: false,
            lists_all_apart: false,
            by_hash: false,
            files: BTreeMap::new(),
        };
        let find = |suite: &str, component: &str, release: &Release| {
            indices(suite, &[component.to_string()], release).map_err(|err| err.to_string())
        };
        let main = |release: &Release| find("trixie", "main", release).map(|it| it[0].clone());
        assert!(main(&release).unwrap_err().contains("no packages for amd64"));
        assert_eq!(find("trixie", "x", &release).unwrap_err(), "it has no component `x`; there are main");
        release.architectures = vec!["all".to_string(), "amd64".to_string()];
        assert!(main(&release).unwrap_err().contains("no package index of main"));
        release.files.insert("main/binary-amd64/Packages.gz".to_string(), file(2));
        assert_eq!(main(&release).unwrap().compression, Compression::Gzip);
        release.files.insert("main/binary-amd64/Packages.xz".to_string(), file(1));
        let found = main(&release).unwrap();
        assert_eq!((found.compression, found.file.size), (Compression::Xz, 1));
        assert_eq!(found.path, "dists/trixie/main/binary-amd64/Packages.xz");
        release.by_hash = true;
        assert_eq!(
            main(&release).unwrap().path,
            format!("dists/trixie/main/binary-amd64/by-hash/SHA256/{SHA}")
        );
        release.by_hash = false;
        // Packages for all architectures may stand apart.
        release.files.insert("main/binary-all/Packages".to_string(), file(3));
        assert_eq!(find("trixie", "main", &release).unwrap().len(), 1);
        release.lists_all_apart = true;
        assert_eq!(
            find("trixie", "main", &release).unwrap()[1].path,
            "dists/trixie/main/binary-all/Packages"
        );
        // Directories.
        assert!(find("./", "", &release).unwrap_err().contains("no package index for amd64"));
        release.files.insert("Packages.gz".to_string(), file(4));
        assert_eq!(find("./", "", &release).unwrap()[0].path, "Packages.gz");
        assert_eq!(find("a/b/", "", &release).unwrap()[0].path, "a/b/Packages.gz");
    }
}
