//! What happened in a build, and when: the source of the report, of the timings page and of estimates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::derivation::DrvId;
use crate::schedule::{Estimate, Plan, Progress, Status, time_name};

/// A build, up to now. Times are milliseconds since the command began.
pub struct Trace {
    begun: Instant,
    places: BTreeMap<DrvId, usize>,
    /// What there was to do.
    pub plan: Plan,
    /// How far each derivation of the plan is.
    pub works: Vec<Work>,
    /// Derivations at a time.
    pub jobs: usize,
    /// When the plan was made; nothing if the command did not come so far.
    pub planned: Option<u64>,
    /// When the build was over.
    ended: Option<u64>,
    /// When the last estimate was made.
    estimated: Option<Instant>,
    /// How many ended how, and what was fetched: asked for too often to be counted each time.
    ends: BTreeMap<End, usize>,
    fetched: (u64, usize),
}

/// A derivation in a build.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Which of those at a time it was, counted from 0.
    pub slot: Option<usize>,
    /// When it began.
    pub begin: u64,
    /// How long it took. Of what was reused: when it was built.
    pub millis: u64,
    /// How it ended; nothing if it did not.
    pub end: Option<End>,
    /// The steps that began.
    pub steps: Vec<StepTime>,
    /// Steps in all, as far as known.
    pub n_steps: usize,
    /// Bytes fetched.
    pub bytes: u64,
    /// Files that they belong to.
    pub files: usize,
}

/// How work on a derivation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// It was realized.
    Built,
    /// The store had it.
    Reused,
    /// It failed on its own account.
    Failed,
    /// It was stopped because of something else.
    Stopped,
}

/// A step that began.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Counted from 1.
    pub number: usize,
    /// Its text.
    pub text: String,
    /// When it began.
    pub begin: u64,
    /// How long it took; nothing if it did not succeed.
    pub millis: Option<u64>,
}

impl Trace {
    /// A command begins.
    pub fn new() -> Trace {
        Trace {
            begun: Instant::now(),
            places: BTreeMap::new(),
            plan: Plan::default(),
            works: Vec::new(),
            jobs: 1,
            planned: None,
            ended: None,
            estimated: None,
            ends: BTreeMap::new(),
            fetched: (0, 0),
        }
    }

    /// Milliseconds since the command began.
    pub fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// When the build was over, or now.
    pub fn millis(&self) -> u64 {
        self.ended.unwrap_or_else(|| self.now())
    }

    /// What is known of a derivation.
    pub fn work(&self, id: &DrvId) -> Option<&Work> {
        self.works.get(*self.places.get(id)?)
    }

    /// What people call a derivation.
    pub fn name(&self, id: &DrvId) -> &str {
        let task = self.places.get(id).and_then(|it| self.plan.tasks().get(*it));
        task.map_or("", |it| it.name.as_str())
    }

    /// How many derivations ended so.
    pub fn count(&self, end: End) -> usize {
        self.ends.get(&end).copied().unwrap_or(0)
    }

    /// How many derivations are realized.
    pub fn n_done(&self) -> usize {
        self.count(End::Built) + self.count(End::Reused)
    }

    /// Bytes fetched by all, and files that they belong to.
    pub fn fetched(&self) -> (u64, usize) {
        self.fetched
    }

    /// Takes note of what happens.
    pub fn add(&mut self, event: Progress<'_>) {
        let now = self.now();
        match event {
            Progress::Planned { plan, jobs } => self.begin(plan, jobs, now),
            Progress::Started { id, slot, .. } => {
                self.change(&id, |it| (it.slot, it.begin) = (Some(slot), now));
            }
            Progress::Step { id, number, of, text } => self.change(&id, |it| {
                it.n_steps = of;
                it.steps.push(StepTime { number, text: text.to_owned(), begin: now, millis: None });
            }),
            Progress::StepDone { id, number } => self.change(&id, |it| {
                if let Some(step) = it.steps.iter_mut().rev().find(|step| step.number == number) {
                    step.millis = Some(now.saturating_sub(step.begin));
                }
            }),
            Progress::Resumed { .. } | Progress::Output { .. } => {}
            Progress::Fetched { id, bytes, files, .. } => {
                let mut more = (0, 0);
                self.change(&id, |it| {
                    more = (bytes.saturating_sub(it.bytes), files.saturating_sub(it.files));
                    (it.bytes, it.files) = (it.bytes + more.0, it.files + more.1);
                });
                self.fetched = (self.fetched.0 + more.0, self.fetched.1 + more.1);
            }
            Progress::Done { id, reused, millis, .. } => {
                let end = if reused { End::Reused } else { End::Built };
                self.change(&id, |it| (it.millis, it.end) = (millis, Some(end)));
                *self.ends.entry(end).or_default() += 1;
            }
            Progress::Failed { id, .. } => {
                self.change(&id, |it| it.stop(End::Failed, now));
                *self.ends.entry(End::Failed).or_default() += 1;
            }
        }
    }

    fn begin(&mut self, plan: &Plan, jobs: usize, now: u64) {
        self.places = plan.tasks().iter().enumerate().map(|(idx, task)| (task.id, idx)).collect();
        self.works = vec![Work::default(); plan.tasks().len()];
        self.plan = plan.clone();
        (self.jobs, self.planned, self.ended, self.estimated) = (jobs, Some(now), None, None);
        (self.ends, self.fetched) = (BTreeMap::new(), (0, 0));
    }

    /// The build is over.
    pub fn end(&mut self) {
        let now = self.now();
        self.ended = Some(now);
        for work in &mut self.works {
            if work.end.is_none() && work.slot.is_some() {
                work.stop(End::Stopped, now);
            }
        }
    }

    fn change(&mut self, id: &DrvId, change: impl FnOnce(&mut Work)) {
        let place = self.places.get(id).copied();
        if let Some(work) = place.and_then(|it| self.works.get_mut(it)) {
            change(work);
        }
    }

    /// How long the rest will take, from the times of earlier builds.
    pub fn estimate(&mut self) -> Option<Estimate> {
        self.estimated = Some(Instant::now());
        let now = self.now();
        let status = self.works.iter().map(|it| match (it.end, it.slot) {
            (Some(_), _) => Status::Done,
            (None, Some(_)) => Status::Running(now.saturating_sub(it.begin)),
            (None, None) => Status::Waiting,
        });
        self.plan.remaining(&status.collect::<Vec<_>>(), self.jobs)
    }

    /// Whether an event is worth a new estimate. Those of large plans are not free.
    pub fn wants_estimate(&self, event: Progress<'_>) -> bool {
        let pause = Duration::from_millis(self.works.len() as u64 / 10);
        let changes = match event {
            Progress::Started { derivation, .. } => derivation.kind() != "source",
            Progress::Done { reused, derivation, .. } => !reused && derivation.kind() != "source",
            _ => false,
        };
        changes && self.estimated.is_none_or(|it| it.elapsed() >= pause)
    }

    /// How long everything took that was built, under the names that estimates know.
    pub fn times(&self) -> Vec<(String, u64)> {
        let tasks = self.plan.tasks().iter().zip(&self.works);
        let built = tasks.filter(|(_, work)| work.end == Some(End::Built));
        built.filter_map(|(task, work)| Some((time_name(task.kind, &task.name)?, work.millis))).collect()
    }

    /// How long each derivation of the plan took in this build.
    pub fn spent(&self) -> Vec<u64> {
        self.works.iter().map(|it| if it.was_worked_on() { it.millis } else { 0 }).collect()
    }
}

impl Work {
    /// Whether this build spent time on it.
    pub fn was_worked_on(&self) -> bool {
        self.slot.is_some() && self.end != Some(End::Reused)
    }

    fn stop(&mut self, end: End, now: u64) {
        self.end = Some(end);
        if self.slot.is_some() {
            self.millis = now.saturating_sub(self.begin);
        }
    }
}
