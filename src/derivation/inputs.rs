//! Inputs of a derivation, and the cache key that it has once they are realized.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    CopySource, Derivation, DrvId, Fetch, Image, Layer, LayerEntry, LayersTarget, Run, RunMount, Step,
    canonical_json,
};
use crate::tree::TreeHash;

/// Which part of an input is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Its own output.
    Own,
    /// Its output on top of everything below it.
    Stack,
}

/// A realized input: trees, bottom first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outputs(pub Vec<TreeHash>);

impl Outputs {
    /// The part of a realized input that is used.
    fn part(&self, part: Part) -> Outputs {
        match part {
            Part::Stack => self.clone(),
            Part::Own => Outputs(self.0.last().copied().into_iter().collect()),
        }
    }
}

/// `ids` with all their inputs, inputs first. An id without derivation stands there as it is.
pub fn closure(derivations: &BTreeMap<DrvId, Derivation>, ids: &[DrvId]) -> Vec<DrvId> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    // Depth-first with an explicit stack: chains of layers may be long.
    let mut todo: Vec<(DrvId, bool)> = ids.iter().rev().map(|id| (*id, false)).collect();
    while let Some((id, inputs_done)) = todo.pop() {
        if inputs_done {
            order.push(id);
        } else if seen.insert(id) {
            todo.push((id, true));
            let inputs = derivations.get(&id).map(Derivation::inputs).unwrap_or_default();
            todo.extend(inputs.into_iter().rev().map(|input| (input, false)));
        }
    }
    order
}

impl<R> Derivation<R> {
    /// The same derivation with its inputs named otherwise; `name` is called once for each use, in order.
    pub fn map<S, E>(&self, name: &mut dyn FnMut(&R, Part) -> Result<S, E>) -> Result<Derivation<S>, E> {
        Ok(match self {
            Derivation::Source(it) => Derivation::Source(it.clone()),
            Derivation::Fetch(it) => Derivation::Fetch(it.clone()),
            Derivation::Bootstrap(it) => Derivation::Bootstrap(it.map(name)?),
            Derivation::Image(it) => Derivation::Image(Image {
                name: it.name.clone(),
                system: it.system.clone(),
                sandbox: it.sandbox,
                parent: it.parent.as_ref().map(|parent| name(parent, Part::Stack)).transpose()?,
                source: name(&it.source, Part::Own)?,
                member: it.member.clone(),
                sha256: it.sha256.clone(),
                diff_id: it.diff_id.clone(),
                epoch: it.epoch,
            }),
            Derivation::Layer(it) => Derivation::Layer(Layer {
                name: it.name.clone(),
                system: it.system.clone(),
                sandbox: it.sandbox,
                parent: it.parent.as_ref().map(|parent| name(parent, Part::Stack)).transpose()?,
                steps: it.steps.iter().map(|step| step.map(name)).collect::<Result<_, _>>()?,
                network: it.network.clone(),
                keep: it.keep.clone(),
                epoch: it.epoch,
            }),
            Derivation::Run(it) => Derivation::Run(Run {
                name: it.name.clone(),
                system: it.system.clone(),
                sandbox: it.sandbox,
                container: name(&it.container, Part::Stack)?,
                argv: it.argv.clone(),
                env: it.env.clone(),
                mounts: it.mounts.iter().map(|mount| mount.map(name)).collect::<Result<_, _>>()?,
                epoch: it.epoch,
            }),
        })
    }
}

impl<R> Step<R> {
    fn map<S, E>(&self, name: &mut dyn FnMut(&R, Part) -> Result<S, E>) -> Result<Step<S>, E> {
        Ok(match self {
            Step::Run { argv, env, cwd } => {
                Step::Run { argv: argv.clone(), env: env.clone(), cwd: cwd.clone() }
            }
            Step::Workdir { path } => Step::Workdir { path: path.clone() },
            Step::Write { text, path, attrs } => {
                Step::Write { text: text.clone(), path: path.clone(), attrs: attrs.clone() }
            }
            Step::Mkdir { path, parents, attrs } => {
                Step::Mkdir { path: path.clone(), parents: *parents, attrs: attrs.clone() }
            }
            Step::Copy { sources, dest, attrs } => Step::Copy {
                sources: sources
                    .iter()
                    .map(|it| Ok(CopySource { name: it.name.clone(), source: name(&it.source, Part::Own)? }))
                    .collect::<Result<_, _>>()?,
                dest: dest.clone(),
                attrs: attrs.clone(),
            },
        })
    }
}

impl<R> RunMount<R> {
    fn map<S, E>(&self, name: &mut dyn FnMut(&R, Part) -> Result<S, E>) -> Result<RunMount<S>, E> {
        Ok(match self {
            RunMount::Layers { dest, targets } => RunMount::Layers {
                dest: dest.clone(),
                targets: targets
                    .iter()
                    .map(|target| {
                        let layers = target.layers.iter().map(|it| {
                            Ok(LayerEntry {
                                name: it.name.clone(),
                                layer: name(&it.layer, Part::Own)?,
                                shown: name(&it.shown, Part::Own)?,
                            })
                        });
                        Ok(LayersTarget {
                            name: target.name.clone(),
                            layers: layers.collect::<Result<_, _>>()?,
                        })
                    })
                    .collect::<Result<_, _>>()?,
            },
            RunMount::Overlay { dest, stack } => {
                RunMount::Overlay { dest: dest.clone(), stack: name(stack, Part::Stack)? }
            }
            RunMount::Tree { dest, tree } => {
                RunMount::Tree { dest: dest.clone(), tree: name(tree, Part::Own)? }
            }
            RunMount::Scratch { dest } => RunMount::Scratch { dest: dest.clone() },
            RunMount::Output { dest, file } => RunMount::Output { dest: dest.clone(), file: *file },
        })
    }
}

impl Derivation<DrvId> {
    /// The derivation with its inputs replaced by what they were realized to; else the id of one that is missing.
    pub fn resolve(&self, realized: &BTreeMap<DrvId, Outputs>) -> Result<Derivation<Outputs>, DrvId> {
        self.map(&mut |id, part| realized.get(id).map(|it| it.part(part)).ok_or(*id))
    }

    /// What it is realized to with this output of its own: that of a layer lies on top of its parent's.
    pub fn outputs(&self, own: TreeHash, realized: &BTreeMap<DrvId, Outputs>) -> Outputs {
        let mut stack = match self {
            Derivation::Layer(Layer { parent, .. }) | Derivation::Image(Image { parent, .. }) => {
                parent.and_then(|parent| realized.get(&parent)).cloned()
            }
            _ => None,
        }
        .unwrap_or(Outputs(Vec::new()));
        stack.0.push(own);
        stack
    }

    /// Ids of all inputs, in order of use, each once.
    pub fn inputs(&self) -> Vec<DrvId> {
        let mut ids = Vec::new();
        let mut seen = BTreeSet::new();
        let _ = self.map::<(), std::convert::Infallible>(&mut |id, _| {
            if seen.insert(*id) {
                ids.push(*id);
            }
            Ok(())
        });
        ids
    }
}

impl Derivation<Outputs> {
    /// The cache key: the hash of what the build sees. The name is for people, so it does not count, except
    /// where a mount shows it; of a fetch only the digest counts, of an image's layer only its content.
    pub fn key(&self) -> [u8; 32] {
        let mut anonymous = self.clone();
        match &mut anonymous {
            Derivation::Source(it) => it.name.clear(),
            // Where it comes from changes nothing about what it is, and the digest says it all.
            Derivation::Fetch(it) => {
                *it = Fetch { name: String::new(), urls: Vec::new(), digest: it.digest.clone(), size: None };
            }
            Derivation::Bootstrap(it) => it.name.clear(),
            // The same for the tar file of a layer.
            Derivation::Image(it) => {
                it.name.clear();
                it.source.0.clear();
                (it.member, it.sha256) = (None, None);
            }
            Derivation::Layer(it) => it.name.clear(),
            Derivation::Run(it) => it.name.clear(),
        }
        let text = canonical_json(&anonymous).unwrap_or_default();
        *blake3::keyed_hash(blake3::hash(b"raptor-resolved-1").as_bytes(), text.as_bytes()).as_bytes()
    }
}
