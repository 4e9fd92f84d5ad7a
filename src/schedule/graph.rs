//! The loop: which derivation is next, and what its end means for the others.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::plan::{Plan, Priority};
use super::realize::{Built, realize_one};
use super::{Context, Failure, Goals, Progress, Realization, RealizeError};
use crate::derivation::{Derivation, DrvId, Outputs};
use crate::store::{Key, Realized};
use crate::tree::TreeHash;

/// How often the loop looks whether it is to stop.
const POLL: Duration = Duration::from_millis(50);

/// Realizes the goals. With what was realized come all that failed on their own account, in order of their ids.
pub fn realize(ctx: &Context<'_>, goals: &Goals<'_>) -> (Realization, Vec<Failure>) {
    let plan = match Plan::new(goals, ctx.times) {
        Ok(plan) => plan,
        Err(id) => {
            let error = RealizeError::UnknownInput(id);
            return (Realization::default(), vec![Failure { id, name: id.to_string(), error }]);
        }
    };
    let jobs = ctx.options.jobs.max(1);
    ctx.observer.event(Progress::Planned { plan: &plan, jobs });
    let mut graph = Graph::new(&plan);
    let (task_tx, task_rx) = unbounded::<Task>();
    let (event_tx, event_rx) = unbounded::<Event>();
    std::thread::scope(|scope| {
        for slot in 0..jobs {
            let (tasks, events) = (task_rx.clone(), event_tx.clone());
            scope.spawn(move || worker(ctx, goals, slot, &tasks, &events));
        }
        // The workers hold the only senders and receivers left: they end when the loop drops its own.
        drop((task_rx, event_tx));
        graph.run(ctx, goals, task_tx, &event_rx);
    });
    graph.failures.sort_by_key(|it| it.id);
    (graph.done, graph.failures)
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

fn worker(ctx: &Context<'_>, goals: &Goals<'_>, slot: usize, tasks: &Receiver<Task>, events: &Sender<Event>) {
    for Task { id, resolved } in tasks {
        let begin = Instant::now();
        let Some(derivation) = goals.derivations.get(&id) else { continue };
        ctx.observer.event(Progress::Started { id, derivation, slot });
        // A panic is a bug, but it must not leave the loop waiting for this derivation.
        let realized = std::panic::AssertUnwindSafe(|| realize_one(ctx, goals, id, &resolved));
        let result = std::panic::catch_unwind(realized).unwrap_or(Err(RealizeError::Panicked));
        let _ = events.send(Event::Finished { id, result, elapsed: begin.elapsed() });
    }
}

struct Graph {
    /// Inputs that are not realized yet, of everything that still waits for some.
    waiting: BTreeMap<DrvId, BTreeSet<DrvId>>,
    dependents: BTreeMap<DrvId, Vec<DrvId>>,
    /// What much work waits for goes first.
    priority: BTreeMap<DrvId, Priority>,
    /// Waits for nothing; whether the store has it is not known yet.
    free: Vec<DrvId>,
    /// What the store does not have, and what is to be done for it.
    ready: BinaryHeap<(Priority, DrvId)>,
    resolved: BTreeMap<DrvId, Derivation<Outputs>>,
    running: usize,
    done: Realization,
    failures: Vec<Failure>,
}

impl Graph {
    fn new(plan: &Plan) -> Graph {
        let mut graph = Graph {
            waiting: BTreeMap::new(),
            dependents: BTreeMap::new(),
            priority: BTreeMap::new(),
            free: Vec::new(),
            ready: BinaryHeap::new(),
            resolved: BTreeMap::new(),
            running: 0,
            done: Realization::default(),
            failures: Vec::new(),
        };
        let tasks = plan.tasks();
        for (task, priority) in tasks.iter().zip(plan.priorities()) {
            graph.priority.insert(task.id, priority);
            if task.inputs.is_empty() {
                graph.free.push(task.id);
                continue;
            }
            let inputs = task.inputs.iter().filter_map(|it| Some(tasks.get(*it)?.id));
            let inputs: BTreeSet<DrvId> = inputs.collect();
            inputs.iter().for_each(|it| graph.dependents.entry(*it).or_default().push(task.id));
            graph.waiting.insert(task.id, inputs);
        }
        graph
    }

    fn run(&mut self, ctx: &Context<'_>, goals: &Goals<'_>, tasks: Sender<Task>, events: &Receiver<Event>) {
        loop {
            if !self.stops(ctx) {
                self.look_up(ctx, goals);
            }
            let stop = self.stops(ctx);
            while !stop && self.running < ctx.options.jobs.max(1) {
                let Some((_, id)) = self.ready.pop() else { break };
                self.begin(id, &tasks);
            }
            if ctx.cancel.load(Ordering::Relaxed) {
                // Downloads do not wait for servers that are silent.
                ctx.client.shut_down();
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

    fn stops(&self, ctx: &Context<'_>) -> bool {
        ctx.cancel.load(Ordering::Relaxed) || (!self.failures.is_empty() && !ctx.options.keep_going)
    }

    /// Takes what is free from the store, and what becomes free by that; it needs no thread. The rest is ready.
    fn look_up(&mut self, ctx: &Context<'_>, goals: &Goals<'_>) {
        while let Some(id) = self.free.pop() {
            let Some(derivation) = goals.derivations.get(&id) else { continue };
            match self.cached(ctx, derivation) {
                Ok((Some(realized), _)) => {
                    let millis = realized.millis;
                    self.done.reused += 1;
                    ctx.observer.event(Progress::Done { id, derivation, reused: true, millis });
                    self.realized(goals, id, realized.output);
                }
                Ok((None, resolved)) => {
                    self.resolved.insert(id, resolved);
                    self.ready.push((self.priority.get(&id).copied().unwrap_or_default(), id));
                }
                Err(error) => self.failed(ctx, goals, id, error),
            }
        }
    }

    fn cached(
        &self,
        ctx: &Context<'_>,
        derivation: &Derivation,
    ) -> Result<(Option<Realized>, Derivation<Outputs>), RealizeError> {
        let resolved = derivation.resolve(&self.done.outputs).map_err(RealizeError::UnknownInput)?;
        let realized = match &resolved {
            Derivation::Source(source) => ctx.store.info(&source.tree)?.map(|_| Realized::new(source.tree)),
            it => ctx.store.realized(&Key::new(it.key()))?,
        };
        Ok((realized, resolved))
    }

    /// Gives a derivation to a thread.
    fn begin(&mut self, id: DrvId, tasks: &Sender<Task>) {
        if let Some(resolved) = self.resolved.remove(&id) {
            self.running += 1;
            let _ = tasks.send(Task { id, resolved });
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
                    self.waiting.remove(dependent);
                    self.free.push(*dependent);
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
