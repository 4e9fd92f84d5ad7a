//! What a build consists of, and what can be said of its duration: pure, whatever times are put in.
//!
//! Times decide in which order work is done and what is told about it, never what comes out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Goals;
use crate::derivation::{self, DrvId};
use crate::store::Times;

/// Taken for the time of what was never built here when nothing of the plan was, in milliseconds.
const GUESS: u64 = 1000;

/// All derivations of a build, inputs first.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    tasks: Vec<Task>,
    /// Who waits for each.
    dependents: Vec<Vec<usize>>,
}

/// A derivation of a plan.
#[derive(Clone, Debug)]
pub struct Task {
    /// Which.
    pub id: DrvId,
    /// What people call it.
    pub name: String,
    /// As in [`Derivation::kind`](derivation::Derivation::kind).
    pub kind: &'static str,
    /// What it is made of, as indices into the plan.
    pub inputs: Vec<usize>,
    /// How long it will take if it must be built, in milliseconds; nothing if nobody knows.
    pub expected: Option<u64>,
}

/// How urgent a derivation is: time from its begin to the end of the goal, in milliseconds, and the number of
/// derivations on that way.
pub type Priority = (u64, usize);

/// How far a derivation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Not begun.
    Waiting,
    /// Begun so many milliseconds ago.
    Running(u64),
    /// Nothing is left to do.
    Done,
}

/// What is left of a build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimate {
    /// In milliseconds.
    pub millis: u64,
    /// There is something whose time nobody knows: it will take longer.
    pub at_least: bool,
}

/// Under which name the time of a derivation is remembered. Importing files is too quick to remember.
pub fn time_name(kind: &str, name: &str) -> Option<String> {
    (kind != "source").then(|| format!("{kind} {name}"))
}

impl Plan {
    /// The closure of the goals; an id that has no derivation is the error.
    pub fn new(goals: &Goals<'_>, times: &Times) -> Result<Plan, DrvId> {
        let mut plan = Plan::default();
        let mut places: BTreeMap<DrvId, usize> = BTreeMap::new();
        for (idx, id) in derivation::closure(goals.derivations, goals.goals).into_iter().enumerate() {
            let derivation = goals.derivations.get(&id).ok_or(id)?;
            let (kind, name) = (derivation.kind(), derivation.name().to_owned());
            let inputs = derivation.inputs().iter().filter_map(|it| places.get(it).copied()).collect();
            let expected = match time_name(kind, &name) {
                Some(name) => times.expected(&name),
                None => Some(0),
            };
            places.insert(id, idx);
            plan.push(Task { id, name, kind, inputs, expected });
        }
        Ok(plan)
    }

    fn push(&mut self, task: Task) {
        for input in &task.inputs {
            if let Some(dependents) = self.dependents.get_mut(*input) {
                dependents.push(self.tasks.len());
            }
        }
        self.tasks.push(task);
        self.dependents.push(Vec::new());
    }

    /// The derivations, inputs first.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// How urgent each is: what the most work waits for goes first.
    pub fn priorities(&self) -> Vec<Priority> {
        let known = self.tasks.iter().filter(|it| it.kind != "source").filter_map(|it| it.expected);
        let (n_known, sum) = known.fold((0_u64, 0_u64), |(n, sum), it| (n + 1, sum.saturating_add(it)));
        let guess = sum.checked_div(n_known).unwrap_or(GUESS);
        let mut priorities = vec![(0, 0); self.tasks.len()];
        for (idx, task) in self.tasks.iter().enumerate().rev() {
            let waiting = self.dependents.get(idx).into_iter().flatten();
            let (millis, height): Priority =
                waiting.filter_map(|it| priorities.get(*it).copied()).max().unwrap_or_default();
            let own = task.expected.unwrap_or(guess);
            if let Some(priority) = priorities.get_mut(idx) {
                *priority = (millis.saturating_add(own), height + 1);
            }
        }
        priorities
    }

    /// The chain of inputs that takes longest: its sum and its members that take any time, inputs first.
    pub fn longest_chain(&self, millis: &[u64]) -> (u64, Vec<usize>) {
        let own = |idx: usize| millis.get(idx).copied().unwrap_or(0);
        let mut sums: Vec<u64> = Vec::new();
        let mut before: Vec<Option<usize>> = Vec::new();
        for (idx, task) in self.tasks.iter().enumerate() {
            let inputs = task.inputs.iter().map(|it| (sums.get(*it).copied().unwrap_or(0), Reverse(*it)));
            let longest = inputs.max();
            sums.push(longest.map_or(0, |(sum, _)| sum).saturating_add(own(idx)));
            before.push(longest.map(|(_, Reverse(input))| input));
        }
        let Some((sum, Reverse(last))) = sums.iter().enumerate().map(|(idx, it)| (*it, Reverse(idx))).max()
        else {
            return (0, Vec::new());
        };
        let chain = std::iter::successors(Some(last), |idx| before.get(*idx).copied().flatten());
        let mut chain: Vec<usize> = chain.filter(|idx| own(*idx) > 0).collect();
        chain.reverse();
        (sum, chain)
    }

    /// How long what is left will take with so many at a time; nothing if no time of it is known. Goes through the
    /// rest of the build as the scheduler would.
    pub fn remaining(&self, status: &[Status], jobs: usize) -> Option<Estimate> {
        let of = |idx: usize| status.get(idx).copied().unwrap_or(Status::Waiting);
        let left = || {
            let tasks = self.tasks.iter().enumerate();
            tasks.filter(|(idx, it)| of(*idx) != Status::Done && it.kind != "source").map(|(_, it)| it)
        };
        if !left().any(|it| it.expected.is_some()) {
            return None;
        }
        let at_least = left().any(|it| it.expected.is_none());
        let priorities = self.priorities();
        let mut open: Vec<usize> = Vec::new();
        let mut ready: BinaryHeap<(Priority, usize)> = BinaryHeap::new();
        let mut running: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
        let priority = |idx: usize| (priorities.get(idx).copied().unwrap_or_default(), idx);
        for (idx, task) in self.tasks.iter().enumerate() {
            open.push(task.inputs.iter().filter(|it| of(**it) != Status::Done).count());
            match of(idx) {
                Status::Running(millis) => {
                    let rest = task.expected.unwrap_or(0).saturating_sub(millis);
                    running.push(Reverse((rest, idx)));
                }
                Status::Waiting if open.last() == Some(&0) => ready.push(priority(idx)),
                Status::Waiting | Status::Done => {}
            }
        }
        let mut now = 0;
        loop {
            while running.len() < jobs.max(1) {
                let Some((_, idx)) = ready.pop() else { break };
                let expected = self.tasks.get(idx).and_then(|it| it.expected).unwrap_or(0);
                running.push(Reverse((now + expected, idx)));
            }
            let Some(Reverse((end, idx))) = running.pop() else { break };
            now = end;
            for dependent in self.dependents.get(idx).into_iter().flatten() {
                if let Some(inputs) = open.get_mut(*dependent) {
                    *inputs = inputs.saturating_sub(1);
                    if *inputs == 0 && of(*dependent) == Status::Waiting {
                        ready.push(priority(*dependent));
                    }
                }
            }
        }
        Some(Estimate { millis: now, at_least })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tasks as their time and inputs.
    fn plan(tasks: &[(Option<u64>, &[usize])]) -> Plan {
        let mut plan = Plan::default();
        for (idx, (expected, inputs)) in tasks.iter().enumerate() {
            let id = DrvId::new([idx as u8; 32]);
            let (name, inputs) = (idx.to_string(), inputs.to_vec());
            plan.push(Task { id, name, kind: "layer", inputs, expected: *expected });
        }
        plan
    }

    /// Two chains to one goal: 0 → 1 → 4 with many links, 2 → 4 with a long one; 3 belongs to nothing.
    fn diamond() -> Plan {
        plan(&[(Some(10), &[]), (Some(20), &[0]), (Some(50), &[]), (Some(5), &[]), (Some(100), &[1, 2])])
    }

    const NEW: [Status; 5] = [Status::Waiting; 5];

    #[test]
    fn the_longest_way_to_the_goal_goes_first() {
        let priorities = diamond().priorities();
        assert_eq!(priorities, [(130, 3), (120, 2), (150, 2), (5, 1), (100, 1)]);
        // Without times, the number of links decides.
        let unknown = plan(&[(None, &[]), (None, &[0]), (None, &[]), (None, &[1, 2])]);
        assert_eq!(unknown.priorities(), [(3000, 3), (2000, 2), (2000, 2), (1000, 1)]);
        // What nobody knows counts as the average of what is known.
        assert_eq!(plan(&[(Some(30), &[]), (None, &[]), (Some(10), &[])]).priorities()[1], (20, 1));
    }

    #[test]
    fn the_longest_chain_is_found() {
        let plan = diamond();
        assert_eq!(plan.longest_chain(&[10, 20, 50, 5, 100]), (150, vec![2, 4]));
        assert_eq!(plan.longest_chain(&[10, 20, 0, 5, 0]), (30, vec![0, 1]));
        assert_eq!(plan.longest_chain(&[0; 5]), (0, vec![]));
        assert_eq!(plan.longest_chain(&[0, 0, 0, 200, 0]), (200, vec![3]));
        assert_eq!(Plan::default().longest_chain(&[]), (0, vec![]));
    }

    #[test]
    fn what_remains_depends_on_what_runs_at_a_time() {
        let plan = diamond();
        let millis = |status: &[Status], jobs| plan.remaining(status, jobs).unwrap().millis;
        assert_eq!((millis(&NEW, 1), millis(&NEW, 2), millis(&NEW, 9)), (185, 150, 150));
        let begun = [Status::Done, Status::Waiting, Status::Running(30), Status::Done, Status::Waiting];
        assert_eq!((millis(&begun, 1), millis(&begun, 2)), (140, 120));
        // What takes longer than expected may end at any time.
        let late = [Status::Done, Status::Done, Status::Running(500), Status::Done, Status::Waiting];
        assert_eq!(millis(&late, 1), 100);
    }

    #[test]
    fn what_nobody_knows_is_not_estimated() {
        let partly = plan(&[(Some(10), &[]), (None, &[0])]);
        let waiting = [Status::Waiting; 2];
        assert_eq!(partly.remaining(&waiting, 1), Some(Estimate { millis: 10, at_least: true }));
        assert_eq!(partly.remaining(&[Status::Done, Status::Waiting], 1), None);
        assert_eq!(partly.remaining(&[Status::Done; 2], 1), None);
        assert_eq!(plan(&[(None, &[])]).remaining(&waiting, 1), None);
    }
}
