//! `raptor store verify` and `repair`: finding what is bad, and making or fetching it again.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::process::ExitCode;

use raptor_lang::program::Parameters;
use serde_json::json;

use super::name::bytes;
use super::{Json, run_again};
use crate::cli::errors::{CliError, with_sources};
use crate::cli::project::Project;
use crate::cli::session::{MirrorSettings, Session};
use crate::derivation::{Derivation, DrvId};
use crate::fetch::Wanted;
use crate::fetch::debian;
use crate::fetch::proxy::missing_bodies;
use crate::sandbox;
use crate::schedule::{Goals, Origins, mirrors};
use crate::store::{Bad, Key, Store};
use crate::tree::TreeHash;
use crate::world::import;

pub fn verify(session: &Session, args: &Json) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let found = store.verify()?;
    let code = if found.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    // With -qq the exit status says it all.
    if session.global.quiet > 1 {
        return Ok(code);
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{}", json!(found))?;
        return Ok(code);
    }
    for bad in &found.bad {
        writeln!(out, "bad tree {}: {}", bad.hash, bad.problem)?;
    }
    for bad in &found.bad_files {
        writeln!(out, "bad file {}: {}", bad.path.display(), bad.problem)?;
    }
    let (trees, size, files) = (found.trees, bytes(found.bytes), found.files);
    session.ui.info(&format!("checked {trees} trees with {size}, and {files} other files"));
    match found.bad.len() + found.bad_files.len() {
        0 => session.ui.info("all is well"),
        n if store.is_read_only() => session.ui.error(&format!("{n} bad; the store can only be read")),
        n => {
            session.ui.error(&format!("{n} bad; builds do not use what is bad"));
            session.ui.hint("to make or fetch it again: raptor store repair");
        }
    }
    Ok(code)
}

pub fn repair(session: &Session, args: &Json) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    match sandbox::owns_ids() {
        true => drop(store.verify()?),
        false => {
            // Finding something bad is what it is for; only what comes after tells whether all is well.
            let status = run_again(session, vec!["-qq".into(), "verify".into()])?;
            session.ui.detail(&format!("verification ended with status {status}"));
        }
    }
    let mut mended: Vec<(String, &str)> = Vec::new();
    let mut lost: Vec<(String, String)> = Vec::new();
    for file in store.verify_files()?.bad_files {
        store.remove_damaged(&file)?;
        let path = file.path.display().to_string();
        match file.path.parent().is_some_and(|dir| dir.ends_with("roots")) {
            true => lost.push((path, "a project whose result is no longer kept; build it again".to_owned())),
            false => mended.push((path, "removed; it is made again when it is needed")),
        }
    }
    let bad = store.bad()?;
    let origins = Origins::read(&store)?;
    let mut mender = Mender { session, store: &store, origins: &origins, problems: BTreeMap::new() };
    let ways: [(&str, Way<'_>); 4] = [
        ("another store has it", Mender::take_from_lower),
        ("imported from its project again", Mender::import_again),
        ("fetched again", Mender::fetch_again),
        ("built again", Mender::build_again),
    ];
    for (how, mend) in ways {
        let before = store.bad()?;
        if before.is_empty() {
            break;
        }
        mend(&mut mender, &before)?;
        let after: BTreeSet<TreeHash> = store.bad()?.iter().map(|it| it.hash).collect();
        let good = before.iter().filter(|it| !after.contains(&it.hash));
        mended.extend(good.map(|it| (it.hash.to_string(), how)));
    }
    let problems = mender.problems;
    for it in store.bad()? {
        let nobody = || "nobody knows what made it".to_owned();
        lost.push((it.hash.to_string(), problems.get(&it.hash).cloned().unwrap_or_else(nobody)));
    }
    let code = if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let mut out = std::io::stdout().lock();
    if args.json {
        let pair = |(what, how): (String, String)| json!({ "what": what, "how": how });
        let mended: Vec<_> = mended.into_iter().map(|(what, how)| pair((what, how.to_owned()))).collect();
        let lost: Vec<_> = lost.into_iter().map(pair).collect();
        writeln!(out, "{}", json!({ "bad": bad, "mended": mended, "lost": lost }))?;
        return Ok(code);
    }
    for (what, how) in &mended {
        writeln!(out, "mended {what}: {how}")?;
    }
    for (what, why) in &lost {
        writeln!(out, "lost {what}: {why}")?;
    }
    session.ui.info(&format!("{} mended, {} lost", mended.len(), lost.len()));
    Ok(code)
}

/// One way to get bad trees back.
type Way<'a> = fn(&mut Mender<'a>, &[Bad]) -> Result<(), CliError>;

/// All ways to get bad trees back; each tries all that are still bad.
struct Mender<'a> {
    session: &'a Session,
    store: &'a Store,
    origins: &'a Origins,
    /// Why a tree could not be mended.
    problems: BTreeMap<TreeHash, String>,
}

impl Mender<'_> {
    fn take_from_lower(&mut self, bad: &[Bad]) -> Result<(), CliError> {
        for it in bad {
            if self.store.registered(&it.hash)?.is_some() {
                self.store.forget_bad(&it.hash)?;
            }
        }
        Ok(())
    }

    /// Sources are files of the projects that the roots name.
    fn import_again(&mut self, bad: &[Bad]) -> Result<(), CliError> {
        let wanted: BTreeSet<TreeHash> = bad.iter().map(|it| it.hash).collect();
        let is_source = |it: &Derivation| matches!(it, Derivation::Source(it) if wanted.contains(&it.tree));
        if !self.origins.derivations.values().any(is_source) {
            return Ok(());
        }
        for hash in &wanted {
            self.problems.insert(*hash, "its file changed or is gone".to_owned());
        }
        for (_, root) in self.store.roots()? {
            // Modules are named relative to the working directory.
            if std::env::set_current_dir(&root.project).is_err() {
                continue;
            }
            let targets = [root.target.clone()];
            let evaluated = Project::open(self.session, &targets);
            let Ok(project) = evaluated else { continue };
            let Ok((evaluated, _)) = project.derivations(self.session, &targets, &Parameters::new()) else {
                continue;
            };
            for (id, derivation) in &evaluated.evaluator.derivations {
                let Derivation::Source(source) = derivation else { continue };
                let path = evaluated.evaluator.provenance.get(id).and_then(|it| it.source.as_ref());
                if let (true, Some(path)) = (wanted.contains(&source.tree), path)
                    && let Err(err) = import(&project.files, path, &source.tree, self.store)
                {
                    self.problems.insert(source.tree, with_sources(&err));
                }
            }
        }
        Ok(())
    }

    /// Packages and recorded bodies are where they came from.
    fn fetch_again(&mut self, bad: &[Bad]) -> Result<(), CliError> {
        let bad: BTreeSet<TreeHash> = bad.iter().map(|it| it.hash).collect();
        let find = |kind| MirrorSettings::default().discover(kind).ok();
        let client = self.session.client()?;
        let mut wanted: BTreeMap<TreeHash, Wanted> = BTreeMap::new();
        for derivation in self.origins.derivations.values() {
            let bodies: Vec<Wanted> = match derivation {
                Derivation::Bootstrap(it) => {
                    let archive = client.snapshots(&[it.epoch]);
                    debian::wanted(it.all(), |from| mirrors::mirrors(it, from, &find, &archive))
                }
                Derivation::Layer(it) => {
                    let base = it.parent.and_then(|it| mirrors::base(&self.origins.derivations, it));
                    let archive = client.snapshots(&mirrors::archive_times(it));
                    let aliases = base.map_or(Vec::new(), |it| mirrors::aliases(it, &find, &archive));
                    missing_bodies(&it.network, &aliases, self.store)
                        .map_err(|err| CliError::Other(with_sources(&err)))?
                }
                Derivation::Source(_) | Derivation::Fetch(_) | Derivation::Image(_) | Derivation::Run(_) => {
                    continue;
                }
            };
            for body in bodies {
                let recorded = self.store.recorded(&Key::fetched(&body.sha256, body.size))?;
                if let Some(realized) = recorded.filter(|it| bad.contains(&it.output)) {
                    wanted.insert(realized.output, body);
                }
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        for (hash, body) in wanted {
            self.session.ui.info(&format!("fetching {}", body.name));
            if let Err(err) = client.download(&body, self.store, &|_| {}) {
                self.problems.insert(hash, with_sources(&err));
            }
        }
        Ok(())
    }

    /// Everything else has a derivation.
    fn build_again(&mut self, bad: &[Bad]) -> Result<(), CliError> {
        let made = |id: &DrvId| !matches!(self.origins.derivations.get(id), Some(Derivation::Source(_)));
        let jobs: Vec<(TreeHash, Vec<DrvId>)> = bad
            .iter()
            .map(|it| (it.hash, self.origins.of(&it.hash).into_iter().filter(made).collect()))
            .collect();
        for (hash, ids) in jobs {
            for id in ids {
                let goals = [id];
                let request = Goals {
                    derivations: &self.origins.derivations,
                    provenance: &BTreeMap::new(),
                    files: None,
                    goals: &goals,
                    recorder: &|_, _| Ok(()),
                    recorded: &|_| Ok(None),
                };
                match self.session.realize_with(self.store, &request, &MirrorSettings::default(), false) {
                    Ok(realization) => {
                        let output = realization.outputs.get(&id).and_then(|it| it.0.last());
                        if let Some(output) = output.filter(|it| **it != hash) {
                            self.session.ui.warning(&format!("{hash} is now built as {output}"));
                            // Nothing names the old one any more.
                            self.store.forget_bad(&hash)?;
                        }
                        break;
                    }
                    Err(failures) => {
                        let why =
                            failures.iter().map(|it| format!("{}: {}", it.name, with_sources(&it.error)));
                        self.problems.insert(hash, why.collect::<Vec<_>>().join("; "));
                    }
                }
            }
        }
        Ok(())
    }
}
