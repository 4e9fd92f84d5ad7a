//! Raptor.toml: links, settings, jobs and groups, with the places of everything that can be wrong.

mod debian;
mod fetch;
mod link;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use toml_edit::{Document, Item, Table, TableLike, Value};

use crate::diag::{Code, Diagnostic, Fix};
use crate::program::{Parameter, Parameters, is_variable};
use crate::source::{FileId, Sources, Span};
use crate::stmt::Spanned;
use crate::suggest;

pub use debian::{Archive, ArchivePlace, BaseRecipe, Distribution, Repository, full_suite};
pub use fetch::FetchSource;
pub use link::{ArchiveSource, GitRef, GitSource, LinkSource, is_package_path};

/// A Raptor.toml.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// `[raptor.link]`: where packages come from.
    pub links: BTreeMap<String, Spanned<LinkSource>>,
    /// `[fetch.NAME]`: files that FETCH names.
    pub fetch: BTreeMap<String, Spanned<FetchSource>>,
    /// `[raptor] mirror`: URL of a Debian mirror.
    pub mirror: Option<Spanned<String>>,
    /// `[raptor] security-mirror`: URL of a mirror of Debian's security updates.
    pub security_mirror: Option<Spanned<String>>,
    /// `[debian.NAME]`
    pub debian: BTreeMap<String, Distribution>,
    /// `[raptor] insecure-registries`: hosts of registries, with port, that may go without a trusted certificate.
    pub insecure_registries: Vec<Spanned<String>>,
    /// `[raptor] snapshot`: URL of Debian's archive as it was at `{date}`.
    pub snapshot: Option<Spanned<String>>,
    /// `[raptor] caches`: URLs of binary caches.
    pub caches: Vec<Spanned<String>>,
    /// `[run.NAME]`
    pub runs: BTreeMap<String, RunJob>,
    /// `[group.NAME]`
    pub groups: BTreeMap<String, Group>,
}

/// One `[run.NAME]`.
#[derive(Clone, Debug, PartialEq)]
pub struct RunJob {
    /// The container's module.
    pub target: Spanned<String>,
    /// Sources of the mount `cache`.
    pub cache: Vec<Spanned<String>>,
    /// Sources of the mount `input`.
    pub input: Vec<Spanned<String>>,
    /// Source of the mount `output`.
    pub output: Vec<Spanned<String>>,
    /// Instead of the target's ENTRYPOINT; empty means the target's.
    pub entrypoint: Vec<String>,
    /// Instead of the target's CMD; empty means the target's.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Parameters of the target.
    pub with: Parameters,
    /// `state-dir` (or `state_dir`): where changes of the root are kept.
    pub state_dir: Option<Spanned<String>>,
}

/// One `[group.NAME]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Jobs.
    pub run: Vec<Spanned<String>>,
    /// Modules to build.
    pub build: Vec<Spanned<String>>,
}

/// Reads a Raptor.toml. What is wrong is left out of the result and told in the diagnostics.
pub fn parse(path: &Path, text: &str, sources: &mut Sources) -> (Manifest, Vec<Diagnostic>) {
    let file = sources.add(path, text.into());
    let mut reader = Reader { file, problems: Vec::new() };
    let mut manifest = Manifest::default();
    match Document::parse(text) {
        Ok(document) => reader.document(document.as_table(), &mut manifest),
        Err(error) => {
            let span = reader.span(error.span());
            let message = error.message().lines().next().unwrap_or("not TOML").to_owned();
            reader.problems.push(Diagnostic::new(Code::ManifestSyntax, message, span, "here"));
        }
    }
    (manifest, reader.problems)
}

struct Reader {
    file: FileId,
    problems: Vec<Diagnostic>,
}

impl Reader {
    fn document(&mut self, root: &Table, manifest: &mut Manifest) {
        self.known(root, &["raptor", "debian", "fetch", "run", "group"], "at the top");
        if let Some(raptor) = self.table(root, "raptor") {
            let keys = ["link", "mirror", "security-mirror", "snapshot", "caches", "insecure-registries"];
            self.known(raptor, &keys, "in [raptor]");
            manifest.mirror = self.string(raptor, "mirror");
            manifest.security_mirror = self.string(raptor, "security-mirror");
            manifest.snapshot = self.string(raptor, "snapshot");
            manifest.caches = self.strings(raptor, "caches", true);
            manifest.insecure_registries = self.strings(raptor, "insecure-registries", false);
            if let Some(links) = self.table(raptor, "link") {
                for (name, _) in links.iter() {
                    if let Some(source) = self.link(links, name) {
                        if name == "std" {
                            self.hides_std(links, name);
                        }
                        manifest.links.insert(name.to_owned(), source);
                    }
                }
            }
        }
        if let Some(tables) = self.table(root, "debian") {
            manifest.debian = self.distributions(tables);
        }
        if let Some(files) = self.table(root, "fetch") {
            for (name, _) in files.iter() {
                if let Some(source) = self.fetch(files, name) {
                    manifest.fetch.insert(name.to_owned(), source);
                }
            }
        }
        if let Some(runs) = self.table(root, "run") {
            for (name, _) in runs.iter() {
                if let Some(job) = self.table(runs, name).and_then(|table| self.job(runs, name, table)) {
                    manifest.runs.insert(name.to_owned(), job);
                }
            }
        }
        if let Some(groups) = self.table(root, "group") {
            for (name, _) in groups.iter() {
                if let Some(table) = self.table(groups, name) {
                    self.known(table, &["run", "build"], "in a group");
                    let group = Group {
                        run: self.strings(table, "run", false),
                        build: self.strings(table, "build", false),
                    };
                    manifest.groups.insert(name.to_owned(), group);
                }
            }
        }
        for member in manifest.groups.values().flat_map(|it| &it.run) {
            if !manifest.runs.contains_key(&member.value) {
                let message = format!("there is no job `{}`", member.value);
                let problem = Diagnostic::new(Code::ManifestValue, message, member.span, "named here");
                let near = suggest::nearest(&member.value, manifest.runs.keys().map(String::as_str));
                self.problems.push(match near {
                    Some(near) => problem
                        .with_hint(format!("did you mean `{near}`?"))
                        .with_fix(Fix::guess(member.span, Value::from(near).to_string())),
                    None => problem,
                });
            }
        }
    }

    fn hides_std(&mut self, links: &dyn TableLike, name: &str) {
        let span = self.span(links.key(name).and_then(|it| it.span()));
        let message = "this link hides the standard library";
        let problem = Diagnostic::new(Code::HidesStd, message, span, "`$std` is this package from here on");
        self.problems
            .push(problem.with_hint("give the package another name, unless it is to replace `$std`"));
    }

    fn job(&mut self, runs: &dyn TableLike, name: &str, table: &dyn TableLike) -> Option<RunJob> {
        let keys = [
            "target",
            "with",
            "cache",
            "input",
            "output",
            "entrypoint",
            "args",
            "env",
            "state-dir",
            "state_dir",
        ];
        self.known(table, &keys, "in a job");
        let plain = |list: Vec<Spanned<String>>| list.into_iter().map(|it| it.value).collect();
        let mut env = BTreeMap::new();
        if let Some(vars) = self.table(table, "env") {
            for (key, _) in vars.iter() {
                if let Some(value) = self.string(vars, key) {
                    env.insert(key.to_owned(), value.value);
                }
            }
        }
        let mut with = Parameters::new();
        if let Some(parameters) = self.table(table, "with") {
            for (key, item) in parameters.iter() {
                if !is_variable(key) {
                    let span = self.span(parameters.key(key).and_then(|it| it.span()));
                    let message = format!("`{key}` cannot be the name of a variable");
                    let problem = Diagnostic::new(Code::ManifestValue, message, span, "this parameter");
                    self.problems.push(problem.with_hint("use letters, digits and `_`"));
                } else if let Some(value) = self.parameter(key, item) {
                    with.insert(key.to_owned(), value);
                }
            }
        }
        let output = self.strings(table, "output", true);
        if let Some(second) = output.get(1) {
            let problem =
                Diagnostic::new(Code::ManifestValue, "a job has one output", second.span, "the second one");
            self.problems.push(problem);
        }
        let job = RunJob {
            cache: self.strings(table, "cache", true),
            input: self.strings(table, "input", true),
            output,
            entrypoint: plain(self.strings(table, "entrypoint", false)),
            args: plain(self.strings(table, "args", false)),
            env,
            with,
            state_dir: self.string(table, "state-dir").or_else(|| self.string(table, "state_dir")),
            target: match self.string(table, "target") {
                Some(target) => target,
                None if table.get("target").is_some() => return None,
                None => {
                    let place = runs.key(name).and_then(|key| key.span());
                    let span = self.span(place);
                    let message = format!("job `{name}` has no target");
                    let problem = Diagnostic::new(Code::ManifestValue, message, span, "this job");
                    self.problems.push(problem.with_hint("add `target = \"MODULE\"`"));
                    return None;
                }
            },
        };
        Some(job)
    }

    /// The value of a parameter; what templates and statements have no type for is an error.
    fn parameter(&mut self, name: &str, item: &Item) -> Option<Parameter> {
        if let Some(table) = item.as_table_like() {
            let mut entries = BTreeMap::new();
            for (key, item) in table.iter() {
                entries.insert(key.to_owned(), self.parameter(name, item)?);
            }
            return Some(Parameter::Map(entries));
        }
        if let Item::ArrayOfTables(tables) = item {
            let tables = tables.iter().map(|it| self.parameter(name, &Item::Table(it.clone())));
            return tables.collect::<Option<_>>().map(Parameter::List);
        }
        match item.as_value()? {
            Value::String(text) => Some(Parameter::Str(text.value().clone())),
            Value::Integer(number) => Some(Parameter::Int(*number.value())),
            Value::Boolean(truth) => Some(Parameter::Bool(*truth.value())),
            Value::Array(items) => {
                let items = items.iter().map(|it| self.parameter(name, &Item::Value(it.clone())));
                items.collect::<Option<_>>().map(Parameter::List)
            }
            value => {
                let span = self.span(value.span());
                let message = format!(
                    "parameter `{name}` must be made of strings, integers, booleans, lists and tables"
                );
                let label = format!("this is {}", value.type_name());
                self.problems.push(Diagnostic::new(Code::ManifestValue, message, span, label));
                None
            }
        }
    }

    /// The table of a key; nothing if the key is missing or, with an error, something else.
    fn table<'a>(&mut self, parent: &'a dyn TableLike, key: &str) -> Option<&'a dyn TableLike> {
        let item = parent.get(key)?;
        let table = item.as_table_like();
        if table.is_none() {
            self.wrong(parent, key, item, "a table");
        }
        table
    }

    fn string(&mut self, parent: &dyn TableLike, key: &str) -> Option<Spanned<String>> {
        let item = parent.get(key)?;
        match item.as_str() {
            Some(text) => Some(Spanned { value: text.to_owned(), span: self.span(item.span()) }),
            None => {
                self.wrong(parent, key, item, "a string");
                None
            }
        }
    }

    /// A list of strings; with `single`, a string alone is a list of one.
    fn strings(&mut self, parent: &dyn TableLike, key: &str, single: bool) -> Vec<Spanned<String>> {
        let Some(item) = parent.get(key) else { return Vec::new() };
        let expected = if single { "a string or a list of strings" } else { "a list of strings" };
        match item {
            Item::Value(Value::String(_)) if single => self.string(parent, key).into_iter().collect(),
            Item::Value(Value::Array(items)) => {
                let mut strings = Vec::new();
                for value in items {
                    let span = self.span(value.span());
                    match value.as_str() {
                        Some(text) => strings.push(Spanned { value: text.to_owned(), span }),
                        None => {
                            let message = format!("`{key}` must be {expected}");
                            let label = format!("this has the type {}", value.type_name());
                            self.problems.push(Diagnostic::new(Code::ManifestValue, message, span, label));
                        }
                    }
                }
                strings
            }
            _ => {
                self.wrong(parent, key, item, expected);
                Vec::new()
            }
        }
    }

    fn wrong(&mut self, parent: &dyn TableLike, key: &str, item: &Item, expected: &str) {
        let place = item.span().or_else(|| parent.key(key).and_then(|it| it.span()));
        let span = self.span(place);
        let message = format!("`{key}` must be {expected}");
        let label = format!("this has the type {}", item.type_name());
        self.problems.push(Diagnostic::new(Code::ManifestValue, message, span, label));
    }

    /// Warns of keys that nothing reads.
    fn known(&mut self, table: &dyn TableLike, keys: &[&str], place: &str) {
        for (key, _) in table.iter().filter(|(key, _)| !keys.contains(key)) {
            let span = self.span(table.key(key).and_then(|it| it.span()));
            let problem =
                Diagnostic::new(Code::UnknownKey, format!("unknown key `{key}` {place}"), span, "ignored");
            let near = suggest::nearest(key, keys.iter().copied());
            self.problems.push(match near {
                Some(near) => problem.did_you_mean(near),
                None => problem.with_hint(format!("known keys: {}", keys.join(", "))),
            });
        }
    }

    fn span(&self, range: Option<Range<usize>>) -> Span {
        let range = range.unwrap_or(0..0);
        Span::new(self.file, range.start, range.end)
    }
}

#[cfg(test)]
mod tests {
    use super::{Manifest, parse};
    use crate::program::describe;
    use crate::source::Sources;
    use std::path::Path;

    fn read(text: &str) -> (Manifest, Vec<String>) {
        let mut sources = Sources::default();
        let (manifest, problems) = parse(Path::new("Raptor.toml"), text, &mut sources);
        let shown = problems.iter().map(|it| {
            let span = it.labels[0].span;
            let part = &text[span.start as usize..span.end as usize];
            let hint = it.hint.as_deref().unwrap_or("-");
            format!("{} «{part}» {} ({hint})", it.code.id(), it.message)
        });
        (manifest, shown.collect())
    }

    #[test]
    fn a_whole_file() {
        let (manifest, problems) = read(
            "[raptor.link]\nlib = \"../lib\"\n\n[raptor]\nmirror = \"http://mirror.example/debian\"\n\
             snapshot = \"http://snapshot.example/{date}\"\ncaches = [\"http://cache.example/a\"]\n\n\
             [run.live]\ntarget = \"$std.deblive\"\ncache = \"cache\"\ninput = [\"a\", \"b@1\"]\n\
             output = \"dir/live.iso\"\nwith = { n = 3, on = true, list = [\"a\", { k = -1 }] }\nenv.GRUB_TIMEOUT = \"0\"\nargs = [\"-x\"]\nstate_dir = \"state\"\n\n\
             [group.all]\nrun = [\"live\"]\nbuild = [\"a\"]\n",
        );
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(manifest.links["lib"].value.dir(), Some("../lib"));
        assert_eq!(manifest.mirror.unwrap().value, "http://mirror.example/debian");
        assert_eq!(manifest.snapshot.unwrap().value, "http://snapshot.example/{date}");
        assert_eq!(manifest.caches[0].value, "http://cache.example/a");
        let job = &manifest.runs["live"];
        assert_eq!(job.target.value, "$std.deblive");
        assert_eq!(job.cache[0].value, "cache");
        assert_eq!(job.input.iter().map(|it| it.value.as_str()).collect::<Vec<_>>(), ["a", "b@1"]);
        assert_eq!(job.output[0].value, "dir/live.iso");
        assert_eq!(job.env["GRUB_TIMEOUT"], "0");
        assert_eq!(job.args, ["-x"]);
        assert_eq!(describe(&job.with), "list=[a,{k=-1}]&n=3&on=true");
        assert_eq!(job.state_dir.as_ref().unwrap().value, "state");
        assert_eq!(manifest.groups["all"].run[0].value, "live");
        assert_eq!(manifest.groups["all"].build[0].value, "a");
    }

    #[test]
    fn problems_name_their_place() {
        for (text, expected) in [
            ("run = 1\n", "E0402 «1» `run` must be a table (-)"),
            ("[run.a]\n", "E0402 «a» job `a` has no target (add `target = \"MODULE\"`)"),
            ("[run.a]\ntarget = 3\n", "E0402 «3» `target` must be a string (-)"),
            (
                "[run.a]\ntarget = \"t\"\ninput = [1]\n",
                "E0402 «1» `input` must be a string or a list of strings (-)",
            ),
            ("[run.a]\ntarget = \"t\"\nargs = \"x\"\n", "E0402 «\"x\"» `args` must be a list of strings (-)"),
            ("[run.a]\ntarget = \"t\"\nenv.X = 0\n", "E0402 «0» `X` must be a string (-)"),
            ("[run.a]\ntarget = \"t\"\nwith = [1]\n", "E0402 «[1]» `with` must be a table (-)"),
            (
                "[run.a]\ntarget = \"t\"\nwith = { n = [1, 0.5] }\n",
                "E0402 «0.5» parameter `n` must be made of strings, integers, booleans, lists and tables (-)",
            ),
            (
                "[run.a]\ntarget = \"t\"\n[run.a.with.x]\nday = 2020-01-01\n",
                "E0402 «2020-01-01» parameter `x` must be made of strings, integers, booleans, lists and tables (-)",
            ),
            (
                "[run.a]\ntarget = \"t\"\nwith.\"a-b\" = 1\n",
                "E0402 «\"a-b\"» `a-b` cannot be the name of a variable (use letters, digits and `_`)",
            ),
            (
                "[run.a]\ntarget = \"t\"\ninptu = \"x\"\n",
                "W0503 «inptu» unknown key `inptu` in a job (did you mean `input`?)",
            ),
            ("[runs.a]\n", "W0503 «runs» unknown key `runs` at the top (did you mean `run`?)"),
            ("[group.g]\nrun = [\"x\"]\n", "E0402 «\"x\"» there is no job `x` (-)"),
        ] {
            assert_eq!(read(text).1, [expected], "{text}");
        }
        let syntax = read("[run.a\n").1;
        assert!(syntax[0].starts_with("E0401"), "{syntax:?}");
    }
}
