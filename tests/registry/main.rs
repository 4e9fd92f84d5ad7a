//! FROM docker, end to end: a real registry, what is between it and us, and what it may want to know of us.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod between;
mod faults;
mod login;
mod pull;
mod server;

use std::path::PathBuf;
use std::process::Command;

use common::oci::{Layer, Layout, file, gzip, named, tar, zstd};
use common::trees::layers;
use common::{As, Project, Ran, ran};

/// A project with an empty store, the layout `img` with the image `latest`, and `t.rapt` to be written.
fn project(who: As, layers: &[Layer]) -> Project {
    let project = Project::of(who, &[]).with_empty_store();
    let layout = Layout::new(&project.path("img"));
    let image = |architecture| layout.image(architecture, layers);
    let index = layout.nested_index(&[image("arm64"), image("amd64")]);
    layout.index(&[named(index, "latest")]);
    project.own();
    project
}

/// Two layers, one of them some hundred kilobytes.
fn small() -> Vec<Layer> {
    let mut state = 1_u32;
    let noise: String = (0..300_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            char::from(b'0' + (state >> 24) as u8 % 64)
        })
        .collect();
    vec![gzip(&tar(&[file("noise", &noise)])), zstd(&tar(&[file("etc/hello", "hello")]))]
}

/// A raptor command that may trust `insecure`, and reaches loopback without whatever proxy there is.
fn command(project: &Project, insecure: &str, args: &[&str]) -> Command {
    let mut command = project.command(args);
    command.env("no_proxy", "127.0.0.1").env("RAPTOR_INSECURE_REGISTRIES", insecure);
    command
}

fn run(project: &Project, insecure: &str, args: &[&str]) -> Ran {
    ran(command(project, insecure, args).output().unwrap())
}

/// The path of the topmost layer of the image that `t` adds nothing to.
fn realize(project: &Project, insecure: &str, args: &[&str]) -> PathBuf {
    let ran = run(project, insecure, &[&["build"], args].concat());
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    let layers = layers(project, "t");
    layers[layers.len() - 2].clone()
}

/// Runs a command that must fail with status 1 and say each of `messages`, and leave no lock that pins an image.
fn fails(project: &Project, insecure: &str, args: &[&str], messages: &[&str]) -> Ran {
    let ran = run(project, insecure, args);
    assert_eq!(ran.status, Some(1), "raptor {}:\n{}{}", args.join(" "), ran.stdout, ran.stderr);
    for message in messages {
        assert!(ran.stderr.contains(message), "no `{message}` in:\n{}", ran.stderr);
    }
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    ran
}
