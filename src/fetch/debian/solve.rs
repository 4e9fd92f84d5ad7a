//! Which packages go together: the relations between packages as a problem for a SAT solver.
//!
//! Each package has one version, so a name is all there is to choose. Alternatives are offered in the order of
//! preference; the solver departs from it only where a conflict makes it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Display};

use debian_control::lossy::Relations;
use resolvo::conflict::{Conflict, ConflictCause, ConflictEdge, ConflictNode};
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider, Interner,
    KnownDependencies, NameId, Problem, Requirement, SolvableId, Solver, SolverCache, StringId,
    UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::closure::{ClosureError, Index};

/// Packages that go together: the base as it is, all that is wanted, and all that these need.
pub fn solve<'a>(
    index: &Index<'_, 'a>,
    base: &BTreeSet<&'a str>,
    wanted: &BTreeSet<&'a str>,
) -> Result<BTreeSet<&'a str>, ClosureError> {
    let archive = Archive { index, pool: Pool::default(), solvables: RefCell::default() };
    let roots = base.iter().chain(wanted).map(|name| ConditionalRequirement {
        condition: None,
        requirement: Requirement::Single(archive.any(name, name)),
    });
    let problem = Problem::new().requirements(roots.collect());
    let mut solver = Solver::new(archive);
    match solver.solve(problem) {
        Ok(solution) => Ok(solution.into_iter().map(|it| solver.provider().name(it)).collect()),
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            Err(ClosureError::Unsolvable { reasons: reasons(&conflict, &solver) })
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => Err(ClosureError::Unsolvable { reasons: Vec::new() }),
    }
}

/// All versions of a package, or none; with the text of the relation that says so.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Versions {
    any: bool,
    relation: String,
}

impl VersionSet for Versions {
    type V = String;
}

impl Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.relation)
    }
}

/// What the solver asks.
struct Archive<'i, 'p, 'a> {
    index: &'i Index<'p, 'a>,
    pool: Pool<Versions>,
    solvables: RefCell<BTreeMap<&'a str, SolvableId>>,
}

impl<'a> Archive<'_, '_, 'a> {
    fn any(&self, name: &str, relation: &str) -> VersionSetId {
        let versions = Versions { any: true, relation: relation.to_owned() };
        self.pool.intern_version_set(self.pool.intern_package_name(name), versions)
    }

    fn none(&self, name: &str, relation: String) -> VersionSetId {
        let versions = Versions { any: false, relation };
        self.pool.intern_version_set(self.pool.intern_package_name(name), versions)
    }

    fn name(&self, id: SolvableId) -> &'a str {
        let name = self.pool.resolve_package_name(self.pool.resolve_solvable(id).name);
        self.index.real.get_key_value(name.as_str()).map_or("", |(name, _)| *name)
    }

    fn relations(&self, name: &str) -> Result<KnownDependencies, ClosureError> {
        let mut requirements = Vec::new();
        for group in self.index.dependencies(name)? {
            let candidates = self.index.candidates(&group);
            let text = Relations(vec![group]).to_string();
            let mut sets = candidates.iter().map(|it| self.any(it, &text));
            let requirement = match (sets.next(), candidates.len()) {
                // A name that no package can have, so that nothing is found.
                (None, _) => Requirement::Single(self.any(&format!("({text})"), &text)),
                (Some(only), 1) => Requirement::Single(only),
                (Some(first), _) => Requirement::Union(self.pool.intern_version_set_union(first, sets)),
            };
            requirements.push(ConditionalRequirement { condition: None, requirement });
        }
        let excluded = self.index.excluded(name)?;
        let constrains = excluded.into_iter().map(|(other, relation)| self.none(other, relation)).collect();
        Ok(KnownDependencies { requirements, constrains })
    }
}

impl Interner for Archive<'_, '_, '_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let name = self.name(solvable);
        let version = self.index.real.get(name).map_or("", |it| it.package.version);
        format!("{name} {version}")
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, version_set: VersionSetId) -> impl Display + '_ {
        self.pool.resolve_version_set(version_set)
    }

    fn display_string(&self, string_id: StringId) -> impl Display + '_ {
        self.pool.resolve_string(string_id)
    }

    fn version_set_name(&self, version_set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(version_set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.resolve_solvable(solvable).name
    }

    fn version_sets_in_union(&self, union: VersionSetUnionId) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Archive<'_, '_, '_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        version_set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        match self.pool.resolve_version_set(version_set).any != inverse {
            true => candidates.to_vec(),
            false => Vec::new(),
        }
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let text = self.pool.resolve_package_name(name);
        let (real, candidate) = self.index.real.get_key_value(text.as_str())?;
        let mut solvables = self.solvables.borrow_mut();
        let version = || candidate.package.version.to_owned();
        let id = *solvables.entry(*real).or_insert_with(|| self.pool.intern_solvable(name, version()));
        Some(Candidates { candidates: vec![id], ..Candidates::default() })
    }

    async fn sort_candidates(&self, _solver: &SolverCache<Self>, _solvables: &mut [SolvableId]) {}

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.relations(self.name(solvable)) {
            Ok(relations) => Dependencies::Known(relations),
            Err(err) => Dependencies::Unknown(self.pool.intern_string(err.to_string())),
        }
    }
}

/// What stands in the way of a solution, in words.
fn reasons(conflict: &Conflict, solver: &Solver<Archive<'_, '_, '_>>) -> Vec<String> {
    let archive = solver.provider();
    let graph = conflict.graph(solver);
    let edges = || graph.graph.edge_indices().filter_map(|it| Some((graph.graph.edge_endpoints(it)?, it)));
    // Who needs whom first: shortest ways from what was asked for.
    let mut before = BTreeMap::new();
    let mut queue = VecDeque::from([graph.root_node]);
    while let Some(node) = queue.pop_front() {
        let mut next: Vec<_> = edges()
            .filter(|((from, _), _)| *from == node)
            .filter(|(_, it)| matches!(graph.graph.edge_weight(*it), Some(ConflictEdge::Requires(_))))
            .map(|((_, to), _)| to)
            .collect();
        next.sort();
        for to in next.into_iter().filter(|it| *it != graph.root_node) {
            before.entry(to).or_insert_with(|| {
                queue.push_back(to);
                node
            });
        }
    }
    let package = |node| match graph.graph.node_weight(node) {
        Some(ConflictNode::Solvable(id)) => Some(*id),
        _ => None,
    };
    let shown = |node| package(node).map_or(String::new(), |it| archive.display_solvable(it).to_string());
    let because = |node| {
        let way = std::iter::successors(Some(node), |it| before.get(it).copied());
        let mut names: Vec<&str> = way.filter_map(package).map(|it| archive.name(it)).collect();
        names.reverse();
        if names.len() < 2 { String::new() } else { format!(" ({})", names.join(" → ")) }
    };
    let mut reasons = BTreeSet::new();
    for ((from, to), edge) in edges() {
        match (graph.graph.edge_weight(edge), graph.graph.node_weight(to)) {
            (Some(ConflictEdge::Conflict(ConflictCause::Constrains(set))), _) => {
                let relation = archive.display_version_set(*set);
                let (one, other) = (format!("{}{}", shown(from), because(from)), because(to));
                reasons.insert(format!("{one} excludes {}{other}: {relation}", shown(to)));
            }
            (Some(ConflictEdge::Requires(needed)), Some(ConflictNode::UnresolvedDependency)) => {
                let relation = match needed {
                    Requirement::Single(set) => Some(*set),
                    Requirement::Union(union) => archive.version_sets_in_union(*union).next(),
                };
                let relation =
                    relation.map(|it| archive.display_version_set(it).to_string()).unwrap_or_default();
                reasons.insert(format!(
                    "{}{} needs `{relation}`, which nothing fulfils",
                    shown(from),
                    because(from)
                ));
            }
            (_, Some(ConflictNode::Excluded(reason))) => {
                reasons.insert(archive.pool.resolve_string(*reason).to_owned());
            }
            _ => {}
        }
    }
    reasons.into_iter().collect()
}
