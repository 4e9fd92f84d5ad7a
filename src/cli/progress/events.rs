//! Events for programs: JSON objects, one on a line. Their schema is `spec/schema/progress.json`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Show;
use super::lines::Output;
use super::trace::{End, Trace};
use crate::cli::ui::Ui;
use crate::derivation::DrvId;
use crate::schedule::Progress;

/// How often downloads are told of.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints everything that happens.
pub struct Events {
    ui: Arc<Ui>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    output: Output,
    fetched: BTreeMap<DrvId, Told>,
}

/// What was told of a download, and what was not.
struct Told {
    when: Instant,
    left: Option<Value>,
}

impl Events {
    pub fn new(ui: Arc<Ui>) -> Events {
        Events { ui, state: Mutex::default() }
    }

    /// A download moves on; the last word of it comes before whatever happens next to its derivation.
    fn fetched(&self, state: &mut State, id: DrvId, event: Value) {
        let told = state.fetched.get(&id).map(|it| it.when);
        if told.is_some_and(|it| it.elapsed() < PAUSE) {
            if let Some(told) = state.fetched.get_mut(&id) {
                told.left = Some(event);
            }
            return;
        }
        state.fetched.insert(id, Told { when: Instant::now(), left: None });
        self.ui.event(&event);
    }

    fn flush(&self, state: &mut State, id: &DrvId) {
        if let Some(left) = state.fetched.get_mut(id).and_then(|it| it.left.take()) {
            self.ui.event(&left);
        }
    }
}

impl Show for Events {
    fn event(&self, trace: &mut Trace, event: Progress<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Progress::Planned { plan, jobs } => {
                self.ui.event(&json!({ "type": "planned", "total": plan.tasks().len(), "jobs": jobs }));
            }
            Progress::Started { id, derivation, slot } => {
                let (name, kind) = (derivation.name(), derivation.kind());
                self.ui.event(
                    &json!({ "type": "started", "derivation": id, "name": name, "kind": kind, "slot": slot }),
                );
            }
            Progress::Resumed { id, number, of } => {
                self.ui.event(&json!({ "type": "resumed", "derivation": id, "number": number, "of": of }));
            }
            Progress::Step { id, number, of, text } => {
                self.flush(&mut state, &id);
                self.ui.event(
                    &json!({ "type": "step", "derivation": id, "number": number, "of": of, "text": text }),
                );
            }
            Progress::StepDone { id, number } => {
                self.flush(&mut state, &id);
                let millis = trace.work(&id).and_then(|it| it.steps.last()).and_then(|it| it.millis);
                self.ui.event(
                    &json!({ "type": "step-done", "derivation": id, "number": number, "millis": millis }),
                );
            }
            Progress::Output { id, bytes } => {
                if self.ui.is_verbose() {
                    for line in state.output.lines(id, bytes) {
                        self.ui.event(&json!({ "type": "output", "derivation": id, "text": line }));
                    }
                }
            }
            Progress::Fetched { id, bytes, total, files } => {
                let event = json!({ "type": "fetched", "derivation": id, "bytes": bytes, "total": total,
                    "files": files });
                self.fetched(&mut state, id, event);
            }
            Progress::Done { id, derivation, reused, millis } => {
                self.flush(&mut state, &id);
                self.ui.event(&json!({ "type": "done", "derivation": id, "name": derivation.name(),
                    "kind": derivation.kind(), "reused": reused, "millis": millis,
                    "done": trace.n_done(), "total": trace.works.len() }));
            }
            Progress::Failed { id, derivation } => {
                self.flush(&mut state, &id);
                let millis = trace.work(&id).filter(|it| it.end == Some(End::Failed)).map(|it| it.millis);
                self.ui.event(&json!({ "type": "failed", "derivation": id, "name": derivation.name(),
                    "kind": derivation.kind(), "millis": millis }));
            }
        }
        if trace.wants_estimate(event)
            && let Some(estimate) = trace.estimate()
        {
            let (millis, at_least) = (estimate.millis, estimate.at_least);
            self.ui.event(&json!({ "type": "estimate", "millis": millis, "at_least": at_least }));
        }
    }
}
