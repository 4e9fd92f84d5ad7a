//! Release files: what a suite consists of, by digest. The text comes from a checked signature.

use std::collections::BTreeMap;

/// The parts of a Release file that we need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// `Suite`, such as `stable`.
    pub suite: String,
    /// `Codename`, such as `trixie`.
    pub codename: String,
    /// `Date`, in seconds since 1970.
    pub date: i64,
    /// `Valid-Until`, in seconds since 1970; stable suites have none.
    pub valid_until: Option<i64>,
    /// `Components`.
    pub components: Vec<String>,
    /// `Architectures`.
    pub architectures: Vec<String>,
    /// `NotAutomatic: yes`: packages of the suite do not take the place of others.
    pub not_automatic: bool,
    /// `ButAutomaticUpgrades: yes`: of such suites, those with it go first.
    pub automatic_upgrades: bool,
    /// Packages of the architecture `all` are not listed with those of ours.
    pub lists_all_apart: bool,
    /// `Acquire-By-Hash: yes`.
    pub by_hash: bool,
    /// Index files by path relative to the Release file.
    pub files: BTreeMap<String, IndexFile>,
}

/// Digest and size of an index file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFile {
    /// sha256 (hex, lower case).
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
}

/// What is wrong with a Release file.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Not deb822.
    #[error("it cannot be parsed: {0}")]
    Syntax(String),
    /// A field that every Release file has.
    #[error("it has no field `{0}`")]
    Missing(&'static str),
    /// A field with an odd value.
    #[error("its field `{field}` has the odd value `{value}`")]
    Invalid {
        /// Name of the field.
        field: &'static str,
        /// Its value, or the line that is odd.
        value: String,
    },
    /// A Release file of something else.
    #[error("it belongs to the suite `{suite}` (codename `{codename}`), not to `{wanted}`")]
    OtherSuite {
        /// What was asked for.
        wanted: String,
        /// `Suite` of the file.
        suite: String,
        /// `Codename` of the file.
        codename: String,
    },
}

impl Release {
    /// Parses the text of a Release file and checks that it is the one of `wanted`; directories have no name.
    pub fn parse(text: &str, wanted: &str) -> Result<Release, ReleaseError> {
        let flat = is_flat(wanted);
        let paragraph =
            text.parse::<deb822_fast::Paragraph>().map_err(|err| ReleaseError::Syntax(err.to_string()))?;
        let need = |field| paragraph.get(field).ok_or(ReleaseError::Missing(field));
        let date = |field: &'static str, value: &str| {
            seconds(value).ok_or_else(|| ReleaseError::Invalid { field, value: value.to_string() })
        };
        let words = |text: &str| text.split_whitespace().map(str::to_string).collect::<Vec<_>>();
        let says_yes = |field| paragraph.get(field).is_some_and(|it| it.trim() == "yes");
        let architectures = if flat { Vec::new() } else { words(need("Architectures")?) };
        let release = Release {
            suite: paragraph.get("Suite").unwrap_or_default().to_string(),
            codename: paragraph.get("Codename").unwrap_or_default().to_string(),
            date: date("Date", need("Date")?)?,
            valid_until: paragraph.get("Valid-Until").map(|it| date("Valid-Until", it)).transpose()?,
            components: if flat { Vec::new() } else { words(need("Components")?) },
            lists_all_apart: architectures.iter().any(|it| it == "all")
                && paragraph.get("No-Support-for-Architecture-all").is_none_or(|it| it.trim() != "Packages"),
            architectures,
            not_automatic: says_yes("NotAutomatic"),
            automatic_upgrades: says_yes("ButAutomaticUpgrades"),
            by_hash: says_yes("Acquire-By-Hash"),
            files: files(need("SHA256")?)?,
        };
        if !flat && wanted != release.suite && wanted != release.codename {
            let Release { suite, codename, .. } = release;
            return Err(ReleaseError::OtherSuite { wanted: wanted.to_string(), suite, codename });
        }
        Ok(release)
    }
}

/// Whether a suite is a directory with packages, without `dists` and `pool`.
pub fn is_flat(suite: &str) -> bool {
    suite.ends_with('/')
}

/// Lines of `digest size path`.
fn files(list: &str) -> Result<BTreeMap<String, IndexFile>, ReleaseError> {
    let mut files = BTreeMap::new();
    for line in list.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let odd = || ReleaseError::Invalid { field: "SHA256", value: line.to_string() };
        let mut words = line.split_whitespace();
        let (Some(sha256), Some(size), Some(path), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(odd());
        };
        if !is_sha256(sha256) {
            return Err(odd());
        }
        let size = size.parse().map_err(|_| odd())?;
        files.insert(path.to_string(), IndexFile { sha256: sha256.to_ascii_lowercase(), size });
    }
    Ok(files)
}

/// 64 hexadecimal digits.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// Seconds since 1970 of an RFC 2822 date such as `Sat, 12 Sep 2026 07:55:41 UTC`.
fn seconds(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let date = date.trim();
    let date = date.split_once(',').map_or(date, |(_, rest)| rest);
    let words: Vec<&str> = date.split_whitespace().collect();
    let [day, month, year, time, zone] = words[..] else { return None };
    let digits = |text: &str, max: i64| {
        let fine = (1..=4).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_digit());
        fine.then(|| text.parse::<i64>().ok()).flatten().filter(|it| *it <= max)
    };
    let month = MONTHS.iter().position(|it| *it == month)? as i64 + 1;
    let (day, year) = (digits(day, days_in_month(digits(year, 9999)?, month))?, digits(year, 9999)?);
    let mut time = time.split(':');
    let (hour, minute) = (digits(time.next()?, 23)?, digits(time.next()?, 59)?);
    // 60 is a leap second.
    let second = time.next().map_or(Some(0), |it| digits(it, 60))?;
    if time.next().is_some() || day == 0 {
        return None;
    }
    let offset = match zone {
        "UTC" | "GMT" | "UT" | "Z" => 0,
        _ => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let zone = zone.strip_prefix(['+', '-']).filter(|it| it.len() == 4)?;
            sign * (digits(zone.get(..2)?, 23)? * 3600 + digits(zone.get(2..)?, 59)? * 60)
        }
    };
    Some(days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second - offset)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the proleptic Gregorian calendar. Counting years from March puts the leap day last, so that the
/// length of the months before a date follows one line, `(153 m + 2) / 5`.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = (month + 9) % 12;
    let days_of_years = 365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days_of_years + (153 * month_from_march + 2) / 5 + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (text, expected) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", Some(0)),
            ("Sat, 12 Sep 2026 07:55:41 UTC", Some(1_789_199_741)),
            ("29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Tue, 01 Mar 2100 00:00:00 +0000", Some(4_107_542_400)),
            ("Sun, 31 Dec 2023 22:30 -0130", Some(1_704_067_200)),
            ("Sat, 1 Jan 2000 02:00:00 +0200", Some(946_684_800)),
            ("29 Feb 2100 00:00:00 UTC", None),
            ("0 Jan 2000 00:00:00 UTC", None),
            ("1 jan 2000 00:00:00 UTC", None),
            ("1 Jan 2000 24:00:00 UTC", None),
            ("1 Jan 2000 00:00:00:00 UTC", None),
            ("1 Jan 2000 00:00:00 CET", None),
            ("1 Jan 2000 00:00:00 +2:00", None),
            ("1 Jan 2000 00:00:00", None),
            ("2026-09-12T07:55:41Z", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\n\
        Valid-Until: Sat, 19 Sep 2026 07:55:41 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64\n\
        Components: main contrib\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 main/x\nSHA256:\n \
        E3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855        0 main/binary-amd64/Packages\n";

    #[test]
    fn fields() {
        let release = Release::parse(TEXT, "trixie").unwrap();
        assert_eq!(release, Release::parse(TEXT, "stable").unwrap());
        assert_eq!((release.suite.as_str(), release.codename.as_str()), ("stable", "trixie"));
        assert_eq!(release.valid_until.unwrap() - release.date, 7 * 86400);
        assert_eq!(release.components, ["main", "contrib"]);
        assert_eq!(release.architectures, ["all", "amd64"]);
        assert!(release.by_hash);
        let file = &release.files["main/binary-amd64/Packages"];
        assert_eq!((&file.sha256[..4], file.size, release.files.len()), ("e3b0", 0, 1));
    }

    #[test]
    fn problems() {
        let check = |text: &str, expected: &str| {
            let err = Release::parse(text, "trixie").unwrap_err().to_string();
            assert!(err.contains(expected), "{err}");
        };
        check(&TEXT.replace("SHA256:", "SHA1:"), "no field `SHA256`");
        check(&TEXT.replace("\nDate: Sat, 12", "\nDate: Sat, 32"), "`Date`");
        check(&TEXT.replace("Components", "Komponents"), "no field `Components`");
        check(&TEXT.replace("E3b0", "X3b0"), "`SHA256`");
        check(&TEXT.replace(" 0 main/binary", " many main/binary"), "`SHA256`");
        check(
            &TEXT.replace(": trixie", ": sid").replace(": stable", ": unstable"),
            "`unstable` (codename `sid`)",
        );
        check("", "");
        check("nonsense", "");
    }
}
