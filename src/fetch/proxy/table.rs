//! What one build asked so far: the first answer to a request is the answer to all like it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

use super::Refusal;
use crate::lock::NetworkEntry;

/// What makes requests the same.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub url: String,
    pub method: String,
    pub accept: Option<String>,
    pub body: Option<String>,
}

impl Key {
    pub fn of(entry: &NetworkEntry) -> Key {
        let NetworkEntry { url, method, accept, body, .. } = entry.clone();
        Key { url, method, accept, body }
    }
}

/// The requests of a build, shared by its connections.
#[derive(Default)]
pub struct Table {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Clone, Default)]
struct Inner {
    /// `None` while somebody is getting the answer.
    answers: BTreeMap<Key, Option<Answer>>,
    refused: BTreeMap<Key, Refusal>,
    /// What no answer makes good.
    failed: Vec<Refusal>,
}

#[derive(Clone)]
struct Answer {
    entry: NetworkEntry,
    /// Who asked proved who it was.
    to_known: bool,
}

impl Answer {
    /// Whether it is the answer to all who ask. A server that turns strangers away may answer those it knows; what it
    /// tells them is what the build saw, and strangers get it too when they ask again.
    fn is_for(&self, known: bool) -> bool {
        !known || self.to_known || self.entry.status < 400
    }
}

/// The right and duty to answer a request first; given up when dropped.
pub struct Claim<'a> {
    table: &'a Table,
    key: Key,
    known: bool,
    /// The answer to strangers, which stays if there is no other.
    before: Option<Box<Answer>>,
}

impl Table {
    /// A table of a build that has these answers already.
    pub fn with(answered: Vec<NetworkEntry>) -> Table {
        let answer = |entry| Some(Answer { entry, to_known: false });
        let answers = answered.into_iter().map(|it| (Key::of(&it), answer(it))).collect();
        Table { inner: Mutex::new(Inner { answers, ..Inner::default() }), changed: Condvar::new() }
    }

    /// The answer that this build already got; otherwise it is up to the caller to get it. Waits while
    /// another connection does. `known`: the client has proved who it is.
    pub fn claim(&self, key: &Key, known: bool) -> Result<NetworkEntry, Claim<'_>> {
        let mut inner = self.lock();
        loop {
            match inner.answers.get(key) {
                Some(Some(answer)) if answer.is_for(known) => return Ok(answer.entry.clone()),
                Some(None) => {
                    inner = self.changed.wait(inner).unwrap_or_else(|poisoned| poisoned.into_inner())
                }
                _ => {
                    let before = inner.answers.insert(key.clone(), None).flatten().map(Box::new);
                    return Err(Claim { table: self, key: key.clone(), known, before });
                }
            }
        }
    }

    /// Notes that a request got no answer that can be kept.
    pub fn refuse(&self, key: Key, refusal: Refusal) {
        self.lock().refused.insert(key, refusal);
    }

    /// Notes that a request can have no answer, whatever others like it get.
    pub fn fail(&self, refusal: Refusal) {
        self.lock().failed.push(refusal);
    }

    /// All answers, and the requests that had none in the end, both sorted.
    pub fn take(&self) -> (Vec<NetworkEntry>, Vec<Refusal>) {
        std::mem::take(&mut *self.lock()).outcome()
    }

    /// The same, while more may come.
    pub fn peek(&self) -> (Vec<NetworkEntry>, Vec<Refusal>) {
        self.lock().clone().outcome()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn outcome(self) -> (Vec<NetworkEntry>, Vec<Refusal>) {
        let Inner { answers, mut refused, failed } = self;
        // A client that asked again and then got its answer is content.
        refused.retain(|key, _| !answers.get(key).is_some_and(Option::is_some));
        let mut used: Vec<_> = answers.into_values().flatten().map(|it| it.entry).collect();
        // Nor does it matter what went before, when a host did get through with TLS.
        refused
            .retain(|key, _| key.method != "CONNECT" || !used.iter().any(|it| it.url.starts_with(&key.url)));
        used.sort();
        let mut refused: Vec<_> = refused.into_values().chain(failed).collect();
        refused.sort();
        refused.dedup();
        (used, refused)
    }
}

impl Claim<'_> {
    /// This is the answer, from now on.
    pub fn answered(self, entry: NetworkEntry) {
        let answer = Answer { entry, to_known: self.known };
        self.table.lock().answers.insert(self.key.clone(), Some(answer));
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut inner = self.table.lock();
        if inner.answers.get(&self.key).is_some_and(Option::is_none) {
            match self.before.take() {
                Some(before) => inner.answers.insert(self.key.clone(), Some(*before)),
                None => inner.answers.remove(&self.key),
            };
        }
        drop(inner);
        self.table.changed.notify_all();
    }
}
