//! Packages of a project: those of the network are pinned and brought into the store before anything is evaluated.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use raptor_lang::def::is_package_name;
use raptor_lang::diag::{Code, Diagnostic, Severity};
use raptor_lang::manifest::{self, LinkSource};
use raptor_lang::paths::join;
use raptor_lang::source::{Sources, Span};
use raptor_lang::stmt::Spanned;
use raptor_lang::world::World;

use super::errors::{CliError, with_sources};
use super::project::{MANIFEST, Project};
use super::session::Session;
use crate::fetch::{self, LinkJob};
use crate::lock::LinkPin;
use crate::store::{Key, Store};
use crate::tree::TreeHash;
use crate::world::{Files, Packages, Place};

/// Longest chain of packages that link one another.
const MAX_DEPTH: usize = 16;

/// What a link leads to, however it is named.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    Dir(PathBuf),
    Network(LinkSource),
}

/// A package whose own links are still to be looked at.
struct Found {
    /// Its name, behind those of the packages that led to it.
    chain: Vec<String>,
    /// As the world knows it.
    dir: PathBuf,
    /// Links of the package that links it.
    inherited: BTreeMap<String, PathBuf>,
}

/// Finds all packages of a project, and those that they link in turn. What fails is among the project's problems.
pub fn resolve(session: &Session, project: &mut Project) -> Result<(), CliError> {
    let mut linking = Linking {
        session,
        project,
        sources: project.sources.clone(),
        problems: Vec::new(),
        packages: Packages::default(),
        targets: Vec::new(),
        linked: BTreeMap::new(),
        fetched: BTreeSet::new(),
    };
    linking.packages.files.insert(PathBuf::new(), plain(&project.manifest.fetch));
    let mut waiting = linking.project_links()?;
    // The project's own links are no links of a package.
    let mut seen = BTreeSet::from([PathBuf::new()]);
    while let Some(found) = waiting.pop_front() {
        if seen.insert(found.dir.clone()) {
            waiting.extend(linking.package_links(found)?);
        }
    }
    let Linking { sources, problems, packages, fetched, .. } = linking;
    project.files = Files::new(project.files.base().to_path_buf(), packages);
    project.sources = sources;
    project.fetched_packages = fetched;
    project.problems.extend(problems);
    Ok(())
}

/// Whether a package is missing, so that nothing can be said of the modules that name it.
pub fn failed(problems: &[Diagnostic]) -> bool {
    problems.iter().any(|it| matches!(it.code, Code::NotLocked | Code::InputFailed))
}

struct Linking<'a> {
    session: &'a Session,
    project: &'a Project,
    sources: Sources,
    problems: Vec<Diagnostic>,
    packages: Packages,
    /// Where targets are that do not lie in the project.
    targets: Vec<(Target, PathBuf)>,
    /// Targets of the project's links, with their places in Raptor.toml.
    linked: BTreeMap<String, (Target, Option<Span>)>,
    /// Names of those that come from the network.
    fetched: BTreeSet<String>,
}

impl Linking<'_> {
    fn project_links(&mut self) -> Result<VecDeque<Found>, CliError> {
        let mut links: BTreeMap<String, (LinkSource, Option<Span>)> = BTreeMap::new();
        for pair in self.session.global.link.chunks(2) {
            if let [name, path] = pair {
                links.insert(name.clone(), (LinkSource::Dir(path.clone()), None));
            }
        }
        let manifest = self.project.manifest.links.iter();
        links.extend(manifest.map(|(name, it)| (name.clone(), (it.value.clone(), Some(it.span)))));
        let mut found = VecDeque::new();
        for (name, (source, span)) in links {
            self.linked.insert(name.clone(), (target(&source, Path::new("")), span));
            let chain = vec![name.clone()];
            if let Some(dir) = self.place(&chain, &source, Path::new(""), span)? {
                self.packages.linked.insert(name, dir.clone());
                found.push_back(Found { chain, dir, inherited: BTreeMap::new() });
            }
        }
        Ok(found)
    }

    /// The links that a package has for its own files, unless the project has others of these names.
    fn package_links(&mut self, found: Found) -> Result<Vec<Found>, CliError> {
        let file = found.dir.join(MANIFEST);
        let files = Files::new(self.base().to_path_buf(), self.packages.clone());
        let Ok(text) = files.read(&file) else { return Ok(Vec::new()) };
        let mut sources = self.sources.clone();
        let (manifest, problems) = manifest::parse(&file, &text, &mut sources);
        let errors = problems.into_iter().filter(|it| it.severity() == Severity::Error).collect::<Vec<_>>();
        // Nobody has ever read those of packages on disk; what is wrong with one concerns whoever uses it directly.
        if !errors.is_empty() {
            if self.packages.is_stored(&found.dir) {
                self.sources = sources;
                self.problems.extend(errors);
            }
            return Ok(Vec::new());
        }
        self.sources = sources;
        let mut own = found.inherited;
        let mut next = Vec::new();
        for (name, Spanned { value: source, span }) in manifest.links {
            if let Some((projects, place)) = self.linked.get(&name) {
                if *projects != target(&source, &found.dir) {
                    self.problems.push(clash(&name, *place, span));
                }
                continue;
            }
            let chain: Vec<String> = found.chain.iter().cloned().chain([name.clone()]).collect();
            if let Some(dir) = self.place(&chain, &source, &found.dir, Some(span))? {
                own.insert(name, dir.clone());
                next.push((chain, dir));
            }
        }
        self.packages.files.insert(found.dir.clone(), plain(&manifest.fetch));
        let next =
            next.into_iter().map(|(chain, dir)| Found { chain, dir, inherited: own.clone() }).collect();
        self.packages.own.insert(found.dir, own);
        Ok(next)
    }

    /// The directory of a package as the world knows it; nothing, with a problem, if there is none.
    fn place(
        &mut self,
        chain: &[String],
        source: &LinkSource,
        from: &Path,
        span: Option<Span>,
    ) -> Result<Option<PathBuf>, CliError> {
        let is_stored = self.packages.is_stored(from);
        if chain.len() > MAX_DEPTH {
            let message = format!("packages link one another more than {MAX_DEPTH} deep");
            self.problem(span, Code::ManifestValue, message, "this package", "does a link lead to itself?");
            return Ok(None);
        }
        if let LinkSource::Dir(path) = source
            && Path::new(path).is_relative()
        {
            let dir = join(from, Path::new(path));
            let stays = || from.components().next().is_some_and(|root| dir.starts_with(root));
            if is_stored && (!stays() || dir.components().any(|it| it.as_os_str() == "..")) {
                return Ok(self.leads_out(path, span));
            }
            return Ok(Some(dir));
        }
        let target = target(source, from);
        if let Some((_, dir)) = self.targets.iter().find(|(it, _)| *it == target) {
            return Ok(Some(dir.clone()));
        }
        let name = chain.last().map_or("", String::as_str);
        let place = match source {
            LinkSource::Dir(path) if is_stored => return Ok(self.leads_out(path, span)),
            // No statement can name it, but a job may.
            LinkSource::Dir(path) if !is_package_name(name) => return Ok(Some(PathBuf::from(path))),
            LinkSource::Dir(path) => Place::Dir(PathBuf::from(path)),
            LinkSource::Git(git) if is_stored && is_of_this_machine(&git.url) => {
                return Ok(self.leads_out(&git.url, span));
            }
            LinkSource::Git(_) | LinkSource::Archive(_) => match self.stored(chain, source, from, span)? {
                Some((hash, path)) => Place::Tree(hash, path),
                None => return Ok(None),
            },
        };
        let root: OsString = chain.iter().map(|name| format!("${name}")).collect::<String>().into();
        let dir = PathBuf::from(&root);
        self.packages.places.insert(root, place);
        self.targets.push((target, dir.clone()));
        Ok(Some(dir))
    }

    fn leads_out(&mut self, path: &str, span: Option<Span>) -> Option<PathBuf> {
        let message = format!("`{path}` leads out of a package that came from the network");
        let hint = "such a package may link what is in it, and what is on the network";
        self.problem(span, Code::ManifestValue, message, "linked here", hint);
        None
    }

    /// The tree of a package of the network, pinned and fetched if need be.
    fn stored(
        &mut self,
        chain: &[String],
        source: &LinkSource,
        from: &Path,
        span: Option<Span>,
    ) -> Result<Option<(TreeHash, PathBuf)>, CliError> {
        let (session, project) = (self.session, self.project);
        let name = chain.join("/");
        self.fetched.insert(name.clone());
        let store = session.store()?;
        if let Some(found) = present(&store, pin(project, &name, source).as_ref())? {
            return Ok(Some(found));
        }
        let key = blake3::hash(format!("raptor-link-1\0{name}\0{source:?}").as_bytes());
        let alone = store.wait_lock(&Key::new(*key.as_bytes()), &session.cancel)?;
        let _alone = alone.ok_or_else(CliError::interrupted)?;
        // Another process may have been quicker.
        project.reload_lock()?;
        let pinned = pin(project, &name, source);
        if let Some(found) = present(&store, pinned.as_ref())? {
            return Ok(Some(found));
        }
        if pinned.is_none() && !session.may_record() {
            let message = format!("the package `{name}` is not in {}", project.lock_file().display());
            let hint = "the options forbid to add it: build once without --locked, --offline and the like";
            self.problem(span, Code::NotLocked, message, "linked here", hint);
            return Ok(None);
        }
        let base = Files::new(self.base().to_path_buf(), self.packages.clone());
        let base = base.on_disk(from).unwrap_or_else(|| self.base().to_path_buf());
        let job = LinkJob { store: &store, base: &base, cancel: &session.cancel };
        let busy = session.ui.busy(&format!("fetching the package `{name}`"));
        let fetched = session.client()?.link(source, pinned.as_ref(), &job);
        busy.finish_and_clear();
        if session.cancel.load(Ordering::Relaxed) {
            return Err(CliError::interrupted());
        }
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(error) => {
                self.not_fetched(&name, &error, pinned.is_some(), span);
                return Ok(None);
            }
        };
        if pinned.is_none() {
            project.change_lock(|lock| {
                lock.link.insert(name, fetched.clone());
            })?;
        }
        present(&store, Some(&fetched))
    }

    fn not_fetched(&mut self, name: &str, error: &fetch::Error, is_pinned: bool, span: Option<Span>) {
        let message = format!("cannot fetch the package `{name}`: {}", with_sources(error));
        let hint = match error {
            fetch::Error::Offline { .. } => "build once without --offline, --frozen and the like",
            _ if is_pinned => {
                "Raptor.lock has what it was; without [link] of this name there, it is taken as it is now"
            }
            _ => "it is fetched once, into the store, and pinned by Raptor.lock",
        };
        self.problem(span, Code::InputFailed, message, "linked here", hint);
    }

    fn problem(&mut self, span: Option<Span>, code: Code, message: String, label: &str, hint: &str) {
        // Links of the command line are directories, of which nothing is wrong before they are looked into.
        if let Some(span) = span {
            self.problems.push(Diagnostic::new(code, message, span, label).with_hint(hint));
        }
    }

    fn base(&self) -> &Path {
        self.project.files.base()
    }
}

/// What a link of a package in the directory `from` leads to.
fn target(source: &LinkSource, from: &Path) -> Target {
    match source {
        LinkSource::Dir(path) => Target::Dir(join(from, Path::new(path))),
        LinkSource::Git(git) if is_of_this_machine(&git.url) && !git.url.contains("://") => {
            let mut git = git.clone();
            git.url = join(from, Path::new(&git.url)).to_string_lossy().into_owned();
            Target::Network(LinkSource::Git(git))
        }
        LinkSource::Git(_) | LinkSource::Archive(_) => Target::Network(source.clone()),
    }
}

fn is_of_this_machine(url: &str) -> bool {
    url.split_once("://").is_none_or(|(scheme, _)| scheme == "file")
}

fn pin(project: &Project, name: &str, source: &LinkSource) -> Option<LinkPin> {
    project.lock().link.remove(name).filter(|it| it.is_of(source))
}

/// A pinned tree, if the store has it.
fn present(store: &Store, pin: Option<&LinkPin>) -> Result<Option<(TreeHash, PathBuf)>, CliError> {
    let Some(hash) = pin.and_then(|it| it.tree.parse::<TreeHash>().ok()) else { return Ok(None) };
    Ok(store.info(&hash)?.map(|_| (hash, store.path(&hash))))
}

fn clash(name: &str, project: Option<Span>, package: Span) -> Diagnostic {
    let message = format!("the project and a package both link `{name}`, to different places");
    let problem = Diagnostic::new(Code::LinkClash, message, package, "not used");
    let problem =
        project.into_iter().fold(problem, |it, span| it.with_label(span, "this one counts, in all files"));
    problem.with_hint("give one of them another name, unless the package is to use that of the project")
}

fn plain<T: Clone>(entries: &BTreeMap<String, Spanned<T>>) -> BTreeMap<String, T> {
    entries.iter().map(|(name, it)| (name.clone(), it.value.clone())).collect()
}
