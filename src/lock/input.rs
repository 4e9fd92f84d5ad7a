//! The inputs that a lock pins, whatever their section: listing, forgetting, moving from one lock to another.
//!
//! A new section costs an [`Input`], a line in each function here and one in `change.rs`.

use std::collections::BTreeMap;

use super::Lock;

/// Something of the network that a lock pins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// A Debian base: the text after `debian://`.
    Debian(String),
    /// An image of a registry: the text after `docker://`.
    Docker(String),
    /// The file of a FETCH without digest: its URL.
    File(String),
    /// A package of the network: its name.
    Link(String),
    /// The requests of the RUN steps of a layer: its name.
    Layer(String),
}

impl Input {
    /// The section of the lock.
    pub fn section(&self) -> &'static str {
        match self {
            Input::Debian(_) => "debian",
            Input::Docker(_) => "docker",
            Input::File(_) => "fetch",
            Input::Link(_) => "link",
            Input::Layer(_) => "layers",
        }
    }

    /// The key in the section.
    pub fn key(&self) -> &str {
        match self {
            Input::Debian(key)
            | Input::Docker(key)
            | Input::File(key)
            | Input::Link(key)
            | Input::Layer(key) => key,
        }
    }

    /// Whether a command line means this one: by what is displayed, or by the key alone.
    pub fn is_meant_by(&self, name: &str) -> bool {
        name == self.key() || name == self.to_string()
    }
}

/// As command lines name it.
impl std::fmt::Display for Input {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Input::Debian(key) => write!(f, "debian://{key}"),
            Input::Docker(key) => write!(f, "docker://{key}"),
            Input::Link(key) => write!(f, "${key}"),
            Input::File(key) | Input::Layer(key) => f.write_str(key),
        }
    }
}

impl Lock {
    /// Everything that is pinned, section by section.
    pub fn inputs(&self) -> Vec<Input> {
        let debian = self.debian.keys().cloned().map(Input::Debian);
        let docker = self.docker.keys().cloned().map(Input::Docker);
        let files = self.fetch.keys().cloned().map(Input::File);
        let links = self.link.keys().cloned().map(Input::Link);
        let layers = self.layers.keys().cloned().map(Input::Layer);
        debian.chain(docker).chain(files).chain(links).chain(layers).collect()
    }

    /// Whether this is pinned.
    pub fn has(&self, input: &Input) -> bool {
        match input {
            Input::Debian(key) => self.debian.contains_key(key),
            Input::Docker(key) => self.docker.contains_key(key),
            Input::File(key) => self.fetch.contains_key(key),
            Input::Link(key) => self.link.contains_key(key),
            Input::Layer(key) => self.layers.contains_key(key),
        }
    }

    /// Makes an entry what it is in another lock: added, replaced or gone.
    pub fn take(&mut self, input: &Input, from: &Lock) {
        match input {
            Input::Debian(key) => copy(&mut self.debian, key, &from.debian),
            Input::Docker(key) => copy(&mut self.docker, key, &from.docker),
            Input::File(key) => copy(&mut self.fetch, key, &from.fetch),
            Input::Link(key) => copy(&mut self.link, key, &from.link),
            Input::Layer(key) => copy(&mut self.layers, key, &from.layers),
        }
    }

    /// Removes an entry.
    pub fn forget(&mut self, input: &Input) {
        self.take(input, &Lock::default());
    }
}

fn copy<T: Clone>(to: &mut BTreeMap<String, T>, key: &str, from: &BTreeMap<String, T>) {
    match from.get(key) {
        Some(value) => to.insert(key.to_owned(), value.clone()),
        None => to.remove(key),
    };
}
