use super::*;
use crate::fetch::debian::packages;

/// Paragraphs of `name fields…`; what every package has is filled in.
fn index(fixture: &str) -> String {
    let paragraph = |text: &str| {
        let (name, fields) = text.trim().split_once('\n').unwrap_or((text.trim(), ""));
        let fields: Vec<_> = fields.lines().map(str::trim).collect();
        let version = if fields.iter().any(|it| it.starts_with("Version:")) { "" } else { "Version: 1\n" };
        let sha = "0".repeat(64);
        format!(
            "Package: {name}\n{version}Architecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {sha}\n{}\n",
            fields.join("\n")
        )
    };
    fixture.trim().split("\n\n").map(paragraph).collect::<Vec<_>>().join("\n")
}

/// Expects the packages in order, essential set and rest divided by `|`; or a piece of an error message.
fn check(variant: Variant, fixture: &str, expected: &str) {
    let text = index(fixture);
    let packages = packages::parse(&text).unwrap();
    let found = match closure(&packages, variant, &[]) {
        Ok(chosen) => {
            let names = |base| {
                let names: Vec<_> = chosen
                    .iter()
                    .filter(|it| (it.stage == Stage::Essential) == base)
                    .map(|it| it.package.name)
                    .collect();
                names.join(" ")
            };
            format!("{} | {}", names(true), names(false))
        }
        Err(err) => err.to_string(),
    };
    assert!(
        found == expected || (found.contains("`") && found.contains(expected)),
        "{found}\nexpected {expected}"
    );
}

#[test]
fn variants() {
    let fixture = "
        apt
        Depends: libapt

        libapt

        dpkg
        Essential: yes
        Pre-Depends: libc

        libc

        tzdata
        Priority: required
        Depends: debconf

        debconf

        other
        Priority: important";
    check(Variant::Minbase, fixture, "libc dpkg | libapt apt debconf tzdata");
    check(Variant::Apt, fixture, "libc dpkg | libapt apt");
    check(Variant::Apt, &fixture.replace("apt\n        Depends: libapt\n", "x"), "no package `apt`");
    check(Variant::Apt, &fixture.replace("libapt\n\n        dpkg", "gone\n\n        dpkg"), "`libapt` (apt)");
}

#[test]
fn alternatives() {
    // The first that exists in a fitting version.
    check(Variant::Apt, "apt\nDepends: a | b (>= 2) | c | d\n\nb\nVersion: 1\n\nc\n\nd", " | c apt");
    // One that is there anyway fulfils it, whoever comes later in the queue.
    check(Variant::Apt, "apt\nDepends: a | b, z\n\na\n\nb\n\nz\nDepends: b", " | b z apt");
    // Essential packages make their choice before others are looked at.
    check(Variant::Apt, "e\nEssential: yes\nDepends: a | b\n\na\n\nb\n\napt\nDepends: b", "a e | b apt");
    // Merged directories are a fact, not something to be done later.
    check(
        Variant::Apt,
        "apt\nDepends: usrmerge | usr-is-merged\n\nusrmerge\n\nusr-is-merged",
        " | usr-is-merged apt",
    );
    // Qualifiers.
    check(Variant::Apt, "apt\nDepends: a:any, b:amd64, c:i386 | d\n\na\n\nb\n\nc\n\nd", " | a b d apt");
}

#[test]
fn virtual_packages() {
    // Priority first, then name.
    let fixture = "apt\nDepends: awk\n\ngawk\nProvides: awk\n\nbawk\nProvides: awk\n\nmawk\nPriority: standard\nProvides: awk";
    check(Variant::Apt, fixture, " | mawk apt");
    check(Variant::Apt, &fixture.replace("standard", "optional"), " | bawk apt");
    check(Variant::Apt, &fixture.replace("standard", "required"), " | mawk apt");
    // A real package wins over providers.
    check(Variant::Apt, "apt\nDepends: x\n\nx\n\na\nPriority: required\nProvides: x", " | x apt");
    // Versioned dependencies need versioned provides.
    let fixture = "apt\nDepends: x (>= 2)\n\na\nProvides: x\n\nb\nProvides: x (= 1.9)\n\nc\nProvides: y, x (= 2~), x (= 2)";
    check(Variant::Apt, fixture, " | c apt");
    check(Variant::Apt, &fixture.replace(", x (= 2)", ""), "fulfils the dependency `x (>= 2)` (apt)");
    // A real package in an unfit version may be stood in for.
    check(Variant::Apt, "apt\nDepends: x (>= 2)\n\nx\n\na\nProvides: x (= 3)", " | a apt");
}

#[test]
fn versions() {
    for (constraint, version, fits) in [
        ("(>= 1:1.0)", "2.0", false),
        ("(<< 1.0)", "1.0~rc1", true),
        ("(= 1.0-1)", "1.0-1", true),
        ("(= 1.0-1)", "1.0-1+b1", false),
        ("(>> 1.0)", "1.0", false),
        ("(<= 0:1.0)", "1.0-0", true),
    ] {
        let fixture = format!("apt\nDepends: a {constraint}\n\na\nVersion: {version}");
        check(Variant::Apt, &fixture, if fits { " | a apt" } else { "`a (" });
    }
    // The highest version counts, wherever it stands.
    check(
        Variant::Apt,
        "apt\nDepends: a (= 10)\n\na\nVersion: 9\n\na\nVersion: 10\n\na\nVersion: 2",
        " | a apt",
    );
}

#[test]
fn order() {
    // A cycle of dependencies must not put a package before what it pre-depends on.
    check(Variant::Apt, "apt\nPre-Depends: b\n\nb\nDepends: x\n\nx\nDepends: apt", " | x b apt");
    check(
        Variant::Apt,
        "a\nEssential: yes\nDepends: b\n\nb\nDepends: c\n\nc\nPre-Depends: a\n\napt",
        "b a c | apt",
    );
    // A cycle of pre-dependencies and a dependency on itself end, too.
    check(Variant::Apt, "apt\nPre-Depends: b, apt\n\nb\nPre-Depends: apt", " | b apt");
    check(Variant::Apt, "apt\nDepends: m\n\nm\nDepends: v\nProvides: v", " | m apt");
}

#[test]
fn problems() {
    let fixture = "apt\nDepends: a\n\na\nPre-Depends: b | c\n\nc\nDepends: d (>= 1), e";
    check(Variant::Apt, fixture, "the dependency `d (>= 1)` (apt → a → c)");
    check(Variant::Apt, "apt\nDepends: a (>=", "package `apt` has an odd field `Depends`");
    check(Variant::Apt, "apt\nProvides: |", "package `apt` has an odd field `Provides`");
}

/// Expects the packages that `include` brings to `apt` alone, or a piece of an error message.
#[track_caller]
fn include(fixture: &str, names: &[&str], expected: &str) {
    let text = index(fixture);
    let packages = packages::parse(&text).unwrap();
    let include: Vec<_> = names.iter().map(|name| Include { name, suite: None }).collect();
    let found = match closure(&packages, Variant::Apt, &include) {
        Ok(chosen) => {
            let included = chosen.iter().filter(|it| it.stage == Stage::Included);
            let mark = |it: &Chosen| format!("{}{}", it.package.name, if it.wanted { "!" } else { "" });
            included.map(mark).collect::<Vec<_>>().join(" ")
        }
        Err(err) => err.to_string(),
    };
    assert!(
        found == expected || found.contains("`") && found.contains(expected),
        "{found}\nexpected {expected}"
    );
}

#[test]
fn included() {
    let fixture = "apt\nDepends: libapt\n\nlibapt\n\na\nDepends: b | c, libapt\n\nb\n\nc\n\nd\nDepends: c";
    include(fixture, &["a"], "b a!");
    // What is needed anyway fulfils a choice; what only the choice wanted is not installed.
    include(fixture, &["a", "d"], "c a! d!");
    include(fixture, &["b", "d"], "b! c d!");
    // It may be there already.
    include(fixture, &["libapt"], "");
    include(fixture, &["x"], "there is no package `x`");
    // Something virtual must mean one package.
    let fixture = "apt\n\nexim\nProvides: mta, default-mta\n\npostfix\nProvides: mta";
    include(fixture, &["default-mta"], "exim!");
    include(fixture, &["mta"], "`mta` is provided by several packages: exim, postfix");
}

#[test]
fn conflicts() {
    // The preferred alternative is left for the next where it is in conflict.
    let fixture = "apt\n\na\nDepends: b | c\n\nb\nBreaks: d (<< 2)\n\nc\n\nd";
    include(fixture, &["a"], "b a!");
    include(fixture, &["a", "d"], "c a! d!");
    include(
        &fixture.replace("Breaks: d (<< 2)", "Conflicts: v").replace("\n\nd", "\n\nd\nProvides: v"),
        &["a", "d"],
        "c a! d!",
    );
    include(&fixture.replace("(<< 2)", "(<< 1)"), &["a", "d"], "b a! d!");
    // Also with what is deep below, or in the base.
    let deep = "apt\n\na\nDepends: b | c\n\nb\nDepends: e\n\ne\nConflicts: apt\n\nc";
    include(deep, &["a"], "c a!");
    // A package may conflict with what it provides.
    include("apt\n\na\nConflicts: v\nProvides: v", &["a"], "a!");
    unsolvable("apt\n\nb\nBreaks: d (<< 2)\n\nd", &["b", "d"], &["b 1 excludes d 1: Breaks: d (<< 2)"]);
    let way = "apt\n\na\nDepends: b\n\nb\nDepends: c\n\nc\nConflicts: x\n\ny\nDepends: x\n\nx";
    unsolvable(way, &["a", "y"], &["c 1 (a → b → c) excludes x 1 (y → x): Conflicts: x"]);
    unsolvable(
        "apt\n\na\nDepends: b (>= 2) | z\n\nb",
        &["a"],
        &["a 1 needs `b (>= 2) | z`, which nothing fulfils"],
    );
}

#[track_caller]
fn unsolvable(fixture: &str, names: &[&str], expected: &[&str]) {
    let text = index(fixture);
    let packages = packages::parse(&text).unwrap();
    let include: Vec<_> = names.iter().map(|name| Include { name, suite: None }).collect();
    match closure(&packages, Variant::Apt, &include) {
        Err(ClosureError::Unsolvable { reasons }) => assert_eq!(reasons, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn archives() {
    let text = index("apt\n\na\nVersion: 1\n\na\nVersion: 3\n\na\nVersion: 2\n\nb\nVersion: 2");
    let mut packages = packages::parse(&text).unwrap();
    // The highest version is in backports, as is the only one of `b`.
    for (number, rank) in
        [(2, packages::Rank::Upgrades), (3, packages::Rank::Usual), (4, packages::Rank::OnRequest)]
    {
        packages[number].archive = number;
        packages[number].rank = rank;
    }
    let check = |name: &'static str, suite, expected: &str| {
        let found = match closure(&packages, Variant::Apt, &[Include { name, suite }]) {
            Ok(chosen) => chosen.last().unwrap().package.version.to_owned(),
            Err(err) => err.to_string(),
        };
        assert_eq!(found, expected);
    };
    check("a", None, "2");
    check("a", Some(("backports", Some(2))), "3");
    check("a", Some(("updates", Some(0))), "1");
    check("b", None, "2");
    check("b", Some(("updates", Some(0))), "there is no package `b` in updates");
    check("a", Some(("nowhere", None)), "there is no package `a` in nowhere");
}
