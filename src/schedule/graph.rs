//! The loop: which derivation is next, and what its end means for the others.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::realize::{Built, realize_one};
use super::{Context, Failure, Goals, Progress, Realization, RealizeError};
use crate::derivation::{self, Derivation, DrvId, Outputs};
use crate::store::{Key, Realized};
use crate::tree::TreeHash;

/// How often the loop looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// Realizes the goals. On failure, all that failed on their own account, in order of their ids.
pub fn realize(ctx: &Context<'_>, goals: &Goals<'_>) -> Result<Realization, Vec<Failure>> {
    let mut graph = Graph::new(goals)?;
    ctx.observer.event(Progress::Planned { total: graph.waiting.len() });
    let (task_tx, task_rx) = unbounded::<Task>();
    let (event_tx, event_rx) = unbounded::<Event>();
    std::thread::scope(|scope| {
        for _ in 0..ctx.options.jobs.max(1) {
            let (tasks, events) = (task_rx.clone(), event_tx.clone());
            scope.spawn(move || worker(ctx, goals, &tasks, &events));
        }
        // The workers hold the only senders and receivers left: they end when the loop drops its own.
        drop((task_rx, event_tx));
        graph.run(ctx, goals, task_tx, &event_rx);
    });
    match graph.failures.is_empty() {
        true => Ok(graph.done),
        false => {
            graph.failures.sort_by_key(|it| it.id);
            Err(graph.failures)
        }
    }
}

/// Work for a thread: a derivation whose inputs are realized.
struct Task {
    id: DrvId,
    resolved: Derivation<Outputs>,
}

/// What a thread reports.
enum Event {
    Finished { id: DrvId, result: Result<Built, RealizeError>, elapsed: Duration },
}

fn worker(ctx: &Context<'_>, goals: &Goals<'_>, tasks: &Receiver<Task>, events: &Sender<Event>) {
    for Task { id, resolved } in tasks {
        let begin = Instant::now();
        let Some(derivation) = goals.derivations.get(&id) else { continue };
        ctx.observer.event(Progress::Started { id, derivation });
        // A panic is a bug, but it must not leave the loop waiting for this derivation.
        let realized = std::panic::AssertUnwindSafe(|| realize_one(ctx, goals, id, &resolved));
        let result = std::panic::catch_unwind(realized).unwrap_or(Err(RealizeError::Panicked));
        let _ = events.send(Event::Finished { id, result, elapsed: begin.elapsed() });
    }
}

struct Graph {
    /// Inputs that are not realized yet, of everything not yet begun.
    waiting: BTreeMap<DrvId, BTreeSet<DrvId>>,
    dependents: BTreeMap<DrvId, Vec<DrvId>>,
    /// Longest way to a goal: what many wait for goes first.
    height: BTreeMap<DrvId, usize>,
    ready: BinaryHeap<(usize, DrvId)>,
    running: usize,
    done: Realization,
    failures: Vec<Failure>,
}

impl Graph {
    fn new(goals: &Goals<'_>) -> Result<Graph, Vec<Failure>> {
        let mut graph = Graph {
            waiting: BTreeMap::new(),
            dependents: BTreeMap::new(),
            height: BTreeMap::new(),
            ready: BinaryHeap::new(),
            running: 0,
            done: Realization::default(),
            failures: Vec::new(),
        };
        // Goals first, so that the height of whatever wants an input is known before the input's own.
        for id in derivation::closure(goals.derivations, goals.goals).into_iter().rev() {
            let Some(derivation) = goals.derivations.get(&id) else {
                let error = RealizeError::UnknownInput(id);
                return Err(vec![Failure { id, name: id.to_string(), error }]);
            };
            let above = *graph.height.entry(id).or_insert(0) + 1;
            let inputs = derivation.inputs();
            for input in &inputs {
                let height = graph.height.entry(*input).or_insert(above);
                *height = above.max(*height);
                graph.dependents.entry(*input).or_default().push(id);
            }
            graph.waiting.insert(id, inputs.into_iter().collect());
        }
        let free = graph.waiting.iter().filter(|(_, inputs)| inputs.is_empty()).map(|(id, _)| *id);
        graph.ready = free.map(|id| (graph.height.get(&id).copied().unwrap_or(0), id)).collect();
        Ok(graph)
    }

    fn run(&mut self, ctx: &Context<'_>, goals: &Goals<'_>, tasks: Sender<Task>, events: &Receiver<Event>) {
        loop {
            let stop =
                ctx.cancel.load(Ordering::Relaxed) || (!self.failures.is_empty() && !ctx.options.keep_going);
            while !stop && self.running < ctx.options.jobs.max(1) {
                let Some((_, id)) = self.ready.pop() else { break };
                self.begin(ctx, goals, id, &tasks);
            }
            if self.running == 0 {
                if ctx.cancel.load(Ordering::Relaxed) && self.failures.is_empty() {
                    self.cancelled(goals);
                }
                if stop || self.ready.is_empty() {
                    return;
                }
                continue;
            }
            match events.recv_timeout(POLL) {
                Ok(Event::Finished { id, result, elapsed }) => {
                    self.running -= 1;
                    self.finished(ctx, goals, id, result, elapsed);
                }
                Err(crossbeam_channel::RecvTimeoutError::Timeout) => {}
                Err(crossbeam_channel::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Takes a derivation from the store, or gives it to a thread.
    fn begin(&mut self, ctx: &Context<'_>, goals: &Goals<'_>, id: DrvId, tasks: &Sender<Task>) {
        self.waiting.remove(&id);
        let Some(derivation) = goals.derivations.get(&id) else { return };
        let resolved = derivation.resolve(&self.done.outputs).map_err(RealizeError::UnknownInput);
        let cached = resolved.and_then(|it| match &it {
            Derivation::Source(source) => {
                Ok((ctx.store.info(&source.tree)?.map(|_| Realized::new(source.tree)), it))
            }
            _ => Ok((ctx.store.realized(&Key::new(it.key()))?, it)),
        });
        match cached {
            Ok((Some(realized), _)) => {
                self.done.reused += 1;
                ctx.observer.event(Progress::Done { id, derivation, reused: true, millis: realized.millis });
                self.realized(goals, id, realized.output);
            }
            Ok((None, resolved)) => {
                self.running += 1;
                let _ = tasks.send(Task { id, resolved });
            }
            Err(error) => self.failed(ctx, goals, id, error),
        }
    }

    fn finished(
        &mut self,
        ctx: &Context<'_>,
        goals: &Goals<'_>,
        id: DrvId,
        result: Result<Built, RealizeError>,
        elapsed: Duration,
    ) {
        let Some(derivation) = goals.derivations.get(&id) else { return };
        match result {
            Ok(built) => {
                match built.reused {
                    true => self.done.reused += 1,
                    false => self.done.built += 1,
                }
                let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
                ctx.observer.event(Progress::Done { id, derivation, reused: built.reused, millis });
                self.realized(goals, id, built.output);
            }
            // Others were stopped because of a failure or by the user; neither is news of its own.
            Err(RealizeError::Cancelled) => {}
            Err(error) => self.failed(ctx, goals, id, error),
        }
    }

    fn realized(&mut self, goals: &Goals<'_>, id: DrvId, output: TreeHash) {
        let Some(derivation) = goals.derivations.get(&id) else { return };
        let outputs = derivation.outputs(output, &self.done.outputs);
        self.done.outputs.insert(id, outputs);
        for dependent in self.dependents.get(&id).into_iter().flatten() {
            if let Some(inputs) = self.waiting.get_mut(dependent) {
                inputs.remove(&id);
                if inputs.is_empty() {
                    self.ready.push((self.height.get(dependent).copied().unwrap_or(0), *dependent));
                }
            }
        }
    }

    fn failed(&mut self, ctx: &Context<'_>, goals: &Goals<'_>, id: DrvId, error: RealizeError) {
        let Some(derivation) = goals.derivations.get(&id) else { return };
        ctx.observer.event(Progress::Failed { id, derivation });
        self.failures.push(Failure { id, name: derivation.name().to_owned(), error });
    }

    fn cancelled(&mut self, goals: &Goals<'_>) {
        if let Some((id, derivation)) = goals.goals.first().and_then(|id| goals.derivations.get_key_value(id))
        {
            let name = derivation.name().to_owned();
            self.failures.push(Failure { id: *id, name, error: RealizeError::Cancelled });
        }
    }
}
