//! Modules of an evaluation: loaded and turned into layers on all processors, told in the order of the files.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use raptor_lang::diag::{Code, Diagnostic};
use raptor_lang::program::{self, Base, LogMessage, ModuleId, Program};
use raptor_lang::source::{Sources, Span};
use raptor_lang::stmt::Spanned;
use rayon::prelude::*;

use super::findings::Found;
use super::layer::{self, Steps};
use super::{Evaluator, Failed, Stack, StackLayer};

/// All modules so far; their order is that in which they were named.
#[derive(Default)]
pub(super) struct Modules {
    list: Vec<Module>,
    by_id: HashMap<ModuleId, usize>,
    /// Bases that are no modules: each is evaluated once.
    bases: Vec<ForeignBase>,
    by_base: BTreeMap<String, usize>,
}

/// A base that is no module.
struct ForeignBase {
    /// Its layers, bottom first.
    stack: Stack,
    /// What evaluating it brought up, until it is told.
    found: Option<Found>,
}

/// One module, as far as it is evaluated.
struct Module {
    program: Result<Arc<Program>, Failed>,
    /// What loading it brought up, until it is told.
    loaded: Option<(Vec<Diagnostic>, Vec<LogMessage>)>,
    layer: Option<ModuleLayer>,
}

struct ModuleLayer {
    top: Result<StackLayer, Failed>,
    below: Below,
    /// What making it brought up, until it is told.
    found: Option<Found>,
}

/// What a layer lies on. Whole stacks would take quadratic space in long chains of FROM.
enum Below {
    /// Nothing.
    Nothing,
    /// A base that is no module, by number.
    Base(usize),
    /// A module, by number.
    Module(usize),
}

/// A layer that lacks only its base.
struct Pending {
    idx: usize,
    found: Found,
    steps: Result<Steps, Failed>,
    below: Result<Below, Failed>,
}

impl Evaluator<'_> {
    /// The program of a module.
    pub fn program(&mut self, module: &ModuleId) -> Result<Arc<Program>, Failed> {
        self.load(std::slice::from_ref(module));
        let idx = *self.modules.by_id.get(module).ok_or(Failed)?;
        self.tell_loaded(idx);
        self.module(idx)?.program.clone()
    }

    /// The layers of a module, bottom first.
    pub fn stack(&mut self, module: &ModuleId) -> Result<Stack, Failed> {
        let top = self.layer(module)?;
        let mut stack = vec![top];
        let mut at = self.modules.by_id.get(module).copied();
        while let Some(idx) = at {
            match &self.module(idx)?.layer {
                Some(ModuleLayer { below: Below::Module(below), .. }) => {
                    let layer = self.module(*below)?.layer.as_ref().ok_or(Failed)?;
                    stack.push(layer.top.clone()?);
                    at = Some(*below);
                }
                Some(ModuleLayer { below: Below::Base(base), .. }) => {
                    let base = self.modules.bases.get(*base).ok_or(Failed)?;
                    stack.extend(base.stack.iter().rev().cloned());
                    at = None;
                }
                Some(ModuleLayer { below: Below::Nothing, .. }) | None => at = None,
            }
        }
        stack.reverse();
        Ok(stack)
    }

    /// The layer of a module alone: the top of its stack.
    pub fn layer(&mut self, module: &ModuleId) -> Result<StackLayer, Failed> {
        self.prepare(std::slice::from_ref(module));
        let idx = *self.modules.by_id.get(module).ok_or(Failed)?;
        self.tell(idx);
        self.module(idx)?.layer.as_ref().ok_or(Failed)?.top.clone()
    }

    /// Evaluates modules and what they are built on, on all processors. Nothing is told before somebody asks for it,
    /// so this may be called with more than is wanted in the end.
    pub fn prepare(&mut self, wanted: &[ModuleId]) {
        let mut seen = HashSet::new();
        let mut new = Vec::new();
        let mut wave = wanted.to_vec();
        while !wave.is_empty() {
            self.load(&wave);
            let mut next = Vec::new();
            for idx in wave.iter().filter_map(|it| self.modules.by_id.get(it).copied()) {
                let Some(module) = self.modules.list.get(idx) else { continue };
                if module.layer.is_none() && seen.insert(idx) {
                    new.push(idx);
                    next.extend(module.base().map(|(base, _)| base.clone()));
                }
            }
            wave = next;
        }
        if new.is_empty() {
            return;
        }
        let mut pending = self.pending(&new);
        for level in self.levels(&new) {
            let level: Vec<Pending> = level.iter().filter_map(|idx| pending.remove(idx)).collect();
            let layers = in_parallel(level, |it| self.finish(it));
            for (idx, layer) in layers {
                if let Some(module) = self.modules.list.get_mut(idx) {
                    module.layer = Some(layer);
                }
            }
        }
    }

    /// Loads modules that are not known yet.
    fn load(&mut self, wanted: &[ModuleId]) {
        let first = self.modules.list.len();
        let mut new = Vec::new();
        for id in wanted {
            if let Entry::Vacant(entry) = self.modules.by_id.entry(id.clone()) {
                entry.insert(first + new.len());
                new.push((first + new.len(), id));
            }
        }
        let project = self.project;
        let loaded = in_parallel(new, |(idx, id)| {
            // Table 0 is for files that belong to no module.
            let mut sources = Sources::numbered(idx as u32 + 1);
            let module = match program::load(project, id, &mut sources) {
                Ok(it) => Module {
                    program: Ok(Arc::new(it.program)),
                    loaded: Some((it.warnings, it.log)),
                    layer: None,
                },
                Err(problems) => {
                    Module { program: Err(Failed), loaded: Some((problems, Vec::new())), layer: None }
                }
            };
            (sources, module)
        });
        for (sources, module) in loaded {
            self.sources.join(sources);
            self.modules.list.push(module);
        }
    }

    /// The steps of modules, which need no base; and what they lie on.
    fn pending(&mut self, new: &[usize]) -> HashMap<usize, Pending> {
        let mut pending = in_parallel(new.to_vec(), |idx| {
            let mut findings = self.findings();
            let steps = match self.module(idx).and_then(|it| it.program.clone()) {
                Ok(program) => findings.steps(&program.actions),
                Err(Failed) => Err(Failed),
            };
            Pending { idx, found: findings.found, steps, below: Ok(Below::Nothing) }
        });
        for it in &mut pending {
            let Ok(program) = self.module(it.idx).and_then(|it| it.program.clone()) else { continue };
            it.below = match &program.from {
                None => Ok(Below::Nothing),
                Some(Spanned { value: Base::Module(base), .. }) => {
                    self.modules.by_id.get(base).map(|idx| Below::Module(*idx)).ok_or(Failed)
                }
                Some(from) => self.foreign(from, &mut it.found),
            };
        }
        pending.into_iter().map(|it| (it.idx, it)).collect()
    }

    /// A base that is no module. One that fails is tried again for each module that names it, since each must say so.
    fn foreign(&mut self, from: &Spanned<Base>, found: &mut Found) -> Result<Below, Failed> {
        let name = format!("{:?}", from.value);
        if let Some(known) = self.modules.by_base.get(&name) {
            return Ok(Below::Base(*known));
        }
        let mut findings = self.findings();
        let stack = findings.base(from);
        let found_now = findings.found;
        match stack {
            Ok(stack) => {
                let idx = self.modules.bases.len();
                self.modules.bases.push(ForeignBase { stack, found: Some(found_now) });
                self.modules.by_base.insert(name, idx);
                Ok(Below::Base(idx))
            }
            Err(Failed) => {
                found.append(found_now);
                Err(Failed)
            }
        }
    }

    /// Modules in the order in which their layers can be made: all of one level lie on earlier ones. Modules that
    /// lead into a cycle of FROM are in none; their layers have failed.
    fn levels(&mut self, new: &[usize]) -> Vec<Vec<usize>> {
        let mut depths: HashMap<usize, usize> = HashMap::new();
        let mut levels: Vec<Vec<usize>> = Vec::new();
        for start in new {
            let mut path = Vec::new();
            let mut on_path = HashSet::new();
            let mut at = Some(*start);
            let mut depth = 0;
            while let Some(idx) = at {
                let Some(module) = self.modules.list.get(idx).filter(|it| it.layer.is_none()) else { break };
                if let Some(known) = depths.get(&idx) {
                    depth = known + 1;
                    break;
                }
                if !on_path.insert(idx) {
                    self.cycle(&path);
                    path.clear();
                    break;
                }
                path.push(idx);
                at = module.base().and_then(|(base, _)| self.modules.by_id.get(base).copied());
            }
            for idx in path.into_iter().rev() {
                depths.insert(idx, depth);
                if levels.len() <= depth {
                    levels.resize_with(depth + 1, Vec::new);
                }
                if let Some(level) = levels.get_mut(depth) {
                    level.push(idx);
                }
                depth += 1;
            }
        }
        levels
    }

    /// The last module of `path` builds on an earlier one: no layer comes of any of them.
    fn cycle(&mut self, path: &[usize]) {
        for (place, idx) in path.iter().enumerate() {
            let Some(module) = self.modules.list.get(*idx) else { continue };
            let Some((base, span)) = module.base() else { continue };
            let mut found = Found::default();
            if place + 1 == path.len() {
                let message = format!("FROM leads back to {}", base.path.display());
                let problem = Diagnostic::new(Code::FromCycle, message, span, "the cycle closes here");
                found
                    .diagnostics
                    .push(problem.with_hint("a module cannot be its own base, not even through others"));
            }
            let below = self.modules.by_id.get(base).map_or(Below::Nothing, |it| Below::Module(*it));
            if let Some(module) = self.modules.list.get_mut(*idx) {
                module.layer = Some(ModuleLayer { top: Err(Failed), below, found: Some(found) });
            }
        }
    }

    /// The layer of a module whose base, if it is a module, is done.
    fn finish(&self, pending: Pending) -> (usize, ModuleLayer) {
        let Pending { idx, mut found, steps, below } = pending;
        let lowest = match &below {
            Ok(Below::Nothing) => Ok(None),
            Ok(Below::Base(base)) => {
                Ok(self.modules.bases.get(*base).and_then(|it| it.stack.last()).cloned())
            }
            Ok(Below::Module(base)) => {
                let layer = self.module(*base).ok().and_then(|it| it.layer.as_ref());
                layer.map_or(Err(Failed), |it| it.top.clone()).map(Some)
            }
            Err(Failed) => Err(Failed),
        };
        let program = self.module(idx).and_then(|it| it.program.clone());
        let top = match (program, steps, lowest) {
            (Ok(program), Ok(steps), Ok(lowest)) => {
                let (layer, derivation, provenance) =
                    layer::layer(&program.module, steps, lowest.as_ref(), &self.lock);
                found.derivations.push((layer.id, derivation, provenance));
                Ok(layer)
            }
            _ => Err(Failed),
        };
        (idx, ModuleLayer { top, below: below.unwrap_or(Below::Nothing), found: Some(found) })
    }

    /// What a module and all below it brought up counts from now on.
    fn tell(&mut self, idx: usize) {
        let mut chain = Vec::new();
        let mut at = Some(idx);
        while let Some(idx) = at {
            self.tell_loaded(idx);
            let Some(layer) = self.modules.list.get_mut(idx).and_then(|it| it.layer.as_mut()) else { break };
            let Some(found) = layer.found.take() else { break };
            chain.push(found);
            at = match layer.below {
                Below::Module(below) => Some(below),
                Below::Base(base) => {
                    chain.extend(self.modules.bases.get_mut(base).and_then(|it| it.found.take()));
                    None
                }
                Below::Nothing => None,
            };
        }
        chain.into_iter().rev().for_each(|found| self.join(found));
    }

    fn tell_loaded(&mut self, idx: usize) {
        let loaded = self.modules.list.get_mut(idx).and_then(|it| it.loaded.take());
        if let Some((diagnostics, log)) = loaded {
            self.diagnostics.extend(diagnostics);
            self.log.extend(log);
        }
    }

    fn module(&self, idx: usize) -> Result<&Module, Failed> {
        self.modules.list.get(idx).ok_or(Failed)
    }
}

impl Module {
    /// The module that it is built on, and the FROM that says so.
    fn base(&self) -> Option<(&ModuleId, Span)> {
        match self.program.as_ref().ok()?.from.as_ref()? {
            Spanned { value: Base::Module(base), span } => Some((base, *span)),
            _ => None,
        }
    }
}

/// The results in order, whoever computed them.
fn in_parallel<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
    match items.len() {
        // Waking other threads would take longer; long chains of FROM have many such levels.
        0..4 => items.into_iter().map(work).collect(),
        _ => items.into_par_iter().map(work).collect(),
    }
}
