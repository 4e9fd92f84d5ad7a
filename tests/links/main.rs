//! Packages of git repositories and archives, end to end: servers on loopback, repositories of this machine.

// Clippy knows tests by their attribute only, and helpers of tests may unwrap too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod archives;
#[path = "../common/mod.rs"]
mod common;
mod git;
mod packages;
mod repository;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use common::{As, Project};
use repository::Repository;

/// A project that builds `t` on the package `lib`, linked as `source` says.
fn project(who: As, source: &str) -> Project {
    let manifest = format!("[raptor.link]\nlib = {source}\n");
    Project::of(who, &[("Raptor.toml", &manifest), ("t.rapt", "INCLUDE $lib.base\n")]).with_empty_store()
}

/// A repository whose `base.rinc` writes `text` and copies a file with a link and a program beside it.
fn library(text: &str) -> Repository {
    let repository = Repository::new();
    fill(&repository, text);
    repository.commit();
    repository
}

fn fill(repository: &Repository, text: &str) {
    repository
        .write("base.rinc", &format!("MKDIR /srv\nWRITE \"{text}\" /srv/text\nCOPY files /srv/files\n"));
    repository.write("files/plain", "one\r\ntwo\n");
    repository.write("files/run", "#!/bin/sh\n");
    repository.executable("files/run");
    let link = repository.path("files/link");
    if fs::symlink_metadata(&link).is_err() {
        symlink("/etc/hostname", link).unwrap();
    }
}

fn realize(project: &Project, args: &[&str]) -> PathBuf {
    PathBuf::from(project.ok(&[&["realize"], args].concat()).trim())
}

fn text(built: &Path) -> String {
    fs::read_to_string(built.join("srv/text")).unwrap()
}

/// The same project elsewhere, with nothing in its store.
fn project_with_lock(who: As, other: &Project, lock: &str) -> Project {
    let files = [("Raptor.toml", other.read("Raptor.toml")), ("t.rapt", other.read("t.rapt"))];
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let project = Project::of(who, &files).with_empty_store();
    project.write("Raptor.lock", lock);
    project
}

/// A tar file of these names and texts, in the order given.
fn archive(entries: &[(&str, &str)]) -> Vec<u8> {
    let mut builder =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        match content.strip_prefix("-> ") {
            Some(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                builder.append_link(&mut header, name, target).unwrap();
            }
            None => {
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, name, content.as_bytes()).unwrap();
            }
        }
    }
    builder.into_inner().unwrap().finish().unwrap()
}
