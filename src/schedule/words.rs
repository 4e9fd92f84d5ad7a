//! What derivations say, in the words of the sandbox.

use std::collections::BTreeMap;

use super::net;
use crate::derivation::{Attrs, Outputs, RunMount, Step};
use crate::sandbox::{self, Mount, MountSource};
use crate::tree::TreeHash;

/// Name of the only output of a run.
pub(super) const OUTPUT: &str = "output";

/// A step as the sandbox takes it.
pub(super) fn sandbox_step(step: &Step<Outputs>) -> sandbox::Step {
    match step {
        Step::Run { argv, env, cwd } => {
            let mut env = env.clone();
            for (name, value) in net::env() {
                env.entry(name.to_owned()).or_insert_with(|| value.to_owned());
            }
            sandbox::Step::Run { argv: argv.clone(), env, cwd: cwd.clone() }
        }
        Step::Workdir { path } => sandbox::Step::Workdir { path: path.clone() },
        Step::Write { text, path, attrs } => {
            sandbox::Step::Write { text: text.clone(), path: path.clone(), attrs: sandbox_attrs(attrs) }
        }
        Step::Mkdir { path, parents, attrs } => {
            sandbox::Step::Mkdir { path: path.clone(), parents: *parents, attrs: sandbox_attrs(attrs) }
        }
        Step::Copy { sources, dest, attrs } => sandbox::Step::Copy {
            sources: sources
                .iter()
                .flat_map(|it| {
                    it.source
                        .0
                        .last()
                        .map(|tree| sandbox::CopySource { tree: tree.to_string(), name: it.name.clone() })
                })
                .collect(),
            dest: dest.clone(),
            attrs: sandbox_attrs(attrs),
        },
    }
}

fn sandbox_attrs(attrs: &Attrs) -> sandbox::Attrs {
    sandbox::Attrs {
        mode: attrs.mode.as_deref().and_then(|mode| u32::from_str_radix(mode, 8).ok()),
        user: attrs.user.clone(),
        group: attrs.group.clone(),
    }
}

/// The mounts of a job as the sandbox takes them.
pub(super) fn run_mounts(mounts: &[RunMount<Outputs>]) -> Vec<Mount> {
    let mut out = Vec::new();
    for mount in mounts {
        match mount {
            RunMount::Layers { dest, targets } => {
                let named: Vec<LayersMount> = targets
                    .iter()
                    .map(|target| {
                        let entries = target.layers.iter().filter_map(|it| {
                            let (layer, shown) = (it.layer.0.last()?, it.shown.0.last()?);
                            Some((layer_entry_name(&it.name, layer), *shown))
                        });
                        (target.name.clone(), entries.collect())
                    })
                    .collect();
                layers_mount(dest, &named, &mut out);
            }
            RunMount::Overlay { dest, stack } => out.push(Mount {
                dest: dest.clone(),
                source: MountSource::Overlay(stack.0.iter().map(TreeHash::to_string).collect()),
            }),
            RunMount::Tree { dest, tree } => {
                let source = tree.0.last().map(|tree| MountSource::Tree(tree.to_string()));
                out.extend(source.map(|source| Mount { dest: dest.clone(), source }));
            }
            RunMount::Scratch { dest } => {
                out.push(Mount { dest: dest.clone(), source: MountSource::Scratch })
            }
            RunMount::Output { dest, file } => out.push(Mount {
                dest: dest.clone(),
                source: MountSource::Output { name: OUTPUT.to_owned(), file: *file },
            }),
        }
    }
    out
}

/// A target as given, and its entries: name and tree, bottom first.
pub type LayersMount = (String, Vec<(String, TreeHash)>);

/// Name of a layer in a `layers` mount.
pub fn layer_entry_name(name: &str, layer: &TreeHash) -> String {
    let digits: String = layer.to_string().chars().take(16).collect();
    format!("{name}-{}", digits.to_uppercase())
}

/// The mounts that make up a `layers` mount: one per layer, each once, and `raptor.json`.
pub fn layers_mount(dest: &str, targets: &[LayersMount], out: &mut Vec<Mount>) {
    let dest = dest.trim_end_matches('/');
    out.push(Mount { dest: dest.to_owned(), source: MountSource::Tmpfs });
    let mut entries = BTreeMap::new();
    for (name, tree) in targets.iter().flat_map(|(_, layers)| layers) {
        entries.insert(name.clone(), *tree);
    }
    for (name, tree) in entries {
        out.push(Mount { dest: format!("{dest}/{name}"), source: MountSource::Tree(tree.to_string()) });
    }
    let layers: BTreeMap<&str, Vec<&str>> = targets
        .iter()
        .map(|(target, layers)| (target.as_str(), layers.iter().map(|(name, _)| name.as_str()).collect()))
        .collect();
    let names: Vec<&str> = targets.iter().map(|(target, _)| target.as_str()).collect();
    let json = serde_json::json!({ "layers": layers, "targets": names });
    // Values of strings and lists always have a text.
    let text = serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    out.push(Mount { dest: format!("{dest}/raptor.json"), source: MountSource::Text(text) });
}

/// One line that says what a step does, as the user would write it.
pub(super) fn step_text(step: &sandbox::Step) -> String {
    match step {
        sandbox::Step::Run { argv, .. } => format!("RUN {}", argv.join(" ")),
        sandbox::Step::Workdir { path } => format!("WORKDIR {path}"),
        sandbox::Step::Write { path, .. } => format!("WRITE {path}"),
        sandbox::Step::Mkdir { path, .. } => format!("MKDIR {path}"),
        sandbox::Step::Copy { sources, dest, .. } => {
            let names: Vec<&str> = sources.iter().map(|it| it.name.as_str()).collect();
            format!("COPY {} {dest}", names.join(" "))
        }
        sandbox::Step::Symlink { target, path } => format!("link {path} -> {target}"),
        sandbox::Step::UnpackDebs { debs } => format!("unpack {} packages", debs.len()),
        sandbox::Step::UnpackLayer(blob) => format!("unpack layer sha256:{}", blob.diff_id),
    }
}
