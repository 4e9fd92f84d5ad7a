use std::path::Path;

use super::super::parse;
use super::*;
use crate::source::Sources;

fn read(text: &str) -> (BTreeMap<String, Distribution>, Vec<String>) {
    let mut sources = Sources::default();
    let (manifest, problems) = parse(Path::new("Raptor.toml"), text, &mut sources);
    let shown = problems.iter().map(|it| {
        let span = it.labels[0].span;
        format!("{} «{}» {}", it.code.id(), &text[span.start as usize..span.end as usize], it.message)
    });
    (manifest.debian, shown.collect())
}

/// `place suite components key` of every archive.
fn recipe(text: &str, request: &str) -> Vec<String> {
    let (tables, problems) = read(text);
    assert_eq!(problems, Vec::<String>::new());
    let request: DebianRequest = request.parse().unwrap();
    let recipe = BaseRecipe::new(&request, tables.get(&request.suite));
    let shown = recipe.archives.iter().map(|it| {
        let place = match &it.place {
            ArchivePlace::Mirror => "mirror",
            ArchivePlace::SecurityMirror => "security",
            ArchivePlace::Url(url) => url,
        };
        let name = it.repository.as_deref().map_or(String::new(), |it| format!("{it}: "));
        let key = it.key.as_ref().map_or("", |it| &it.value);
        format!("{name}{place} {} {} {key}", it.suite, it.components.join(",")).trim().to_owned()
    });
    shown.collect()
}

#[test]
fn debian_suites() {
    assert_eq!(recipe("", "trixie"), ["mirror trixie main"]);
    assert_eq!(
        recipe("", "trixie?suites=updates,security,trixie-updates&components=main,contrib"),
        [
            "mirror trixie contrib,main",
            "security trixie-security contrib,main",
            "mirror trixie-updates contrib,main"
        ]
    );
    let text = "[debian.trixie]\nsuites = [\"updates\"]\ncomponents = [\"main\", \"contrib\"]\n\
                [[debian.trixie.repository]]\nurl = \"https://packages.example/x\"\nsuites = [\"any\", \"./\"]\n\
                components = [\"edge\"]\nkey = \"keys/x.asc\"\n";
    assert_eq!(
        recipe(text, "trixie?suites=updates"),
        [
            "mirror trixie main,contrib",
            "mirror trixie-updates main,contrib",
            "packages.example: https://packages.example/x any edge keys/x.asc",
            "packages.example: https://packages.example/x ./  keys/x.asc",
        ]
    );
    assert_eq!(recipe(text, "trixie?components=main")[..1], ["mirror trixie main"]);
    assert_eq!(recipe(text, "bookworm"), ["mirror bookworm main"]);
}

#[test]
fn own_distributions() {
    let text = "[debian.other]\nsuite = \"noble\"\nmirror = \"http://mirror.example/u\"\nkeyring = \"k.gpg\"\n\
                suites = [\"security\"]\n";
    assert_eq!(
        recipe(text, "other?suites=updates"),
        [
            "http://mirror.example/u noble main",
            "http://mirror.example/u noble-security main",
            "http://mirror.example/u noble-updates main",
        ]
    );
    let text = format!("{text}security-mirror = \"http://security.example/u\"\n");
    assert_eq!(recipe(&text, "other")[1], "http://security.example/u noble-security main");
}

#[test]
fn problems_name_their_place() {
    let repository =
        "[[debian.x.repository]]\nurl = \"http://r.example\"\nsuites = [\"a\"]\ncomponents = [\"b\"]\n";
    for (text, expected) in [
        ("debian = 1\n", "E0402 «1» `debian` must be a table"),
        ("[debian.X]\n", "E0402 «X» `X` cannot be the name of a distribution"),
        ("[debian.x]\nsuite = \"y\"\n", "E0402 «\"y\"» `suite` needs a `mirror`"),
        ("[debian.x]\nsuites = [\"Y\"]\n", "E0402 «\"Y\"» `Y` cannot be a suite"),
        ("[debian.x]\ncomponents = [\"../y\"]\n", "E0402 «\"../y\"» `../y` cannot be a component"),
        (
            "[debian.x]\nmirror = \"ftp://y\"\n",
            "E0402 «\"ftp://y\"» this is no http or https URL of a directory",
        ),
        (
            "[debian.x]\nmirror = \"http://a:b@c/d\"\n",
            "E0402 «\"http://a:b@c/d\"» a URL here cannot have a password",
        ),
        ("[debian.x]\nmirrors = \"y\"\n", "W0503 «mirrors» unknown key `mirrors` in a distribution"),
        (
            "[debian.x]\nrepository = \"y\"\n",
            "E0402 «\"y\"» `repository` must be a list of tables: [[debian.NAME.repository]]",
        ),
        (
            "[[debian.x.repository]]\nsuites = [\"./\"]\n",
            "E0402 «[[debian.x.repository]]» this repository has no `url`",
        ),
        (
            &repository.replace("suites = [\"a\"]\n", ""),
            "E0402 «[[debian.x.repository]]» this repository has no `suites`",
        ),
        (
            &repository.replace("components = [\"b\"]\n", ""),
            "E0402 «[[debian.x.repository]]» this repository has no `components`",
        ),
        (&repository.replace("\"a\"", "\"../\""), "E0402 «\"../\"» `../` cannot be a suite"),
        (&repository.repeat(2), "E0402 «\"http://r.example\"» the name `r.example` is taken"),
        (&format!("{repository}name = \"x\"\n"), "E0402 «\"x\"» the name `x` is taken"),
        (
            &format!("{repository}name = \"a/b\"\n"),
            "E0402 «\"a/b\"» `a/b` cannot be the name of a repository",
        ),
    ] {
        assert_eq!(read(text).1, [expected], "{text}");
    }
}
