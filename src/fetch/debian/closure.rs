//! Which packages a base consists of: the roots of a variant and all that they depend on.
//!
//! There is no search: the first alternative that can be had is taken, as apt does for a fresh system. What
//! must be decided is decided late, by priority and name, so that equal indices give equal sets. Only for what is
//! included beside the variant a solver says first which packages go together.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use debian_control::lossy::{Relation, Relations};
use debian_control::relations::VersionConstraint;
use debversion::Version;
use raptor_lang::suggest;

use super::packages::{ARCHITECTURE, Package, Priority};
use super::{Variant, solve};

/// States that `/bin`, `/lib`, … are links into `/usr`. Bookworm depends on it or on the program (in Perl) that
/// would make them so; our roots are made with these links.
const MERGED: &str = "usr-is-merged";

/// Why there is no such set.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A package that every Debian has.
    #[error("the suite has no package `{0}`")]
    NoPackage(String),
    /// A package that `include` names.
    #[error("there is no package `{name}`")]
    NoInclude {
        /// As written.
        name: String,
        /// What was meant, most likely.
        near: Option<String>,
    },
    /// The suite that `include` names has another one, or none.
    #[error("there is no package `{name}` in {suite}")]
    NotInSuite {
        /// The package.
        name: String,
        /// As written.
        suite: String,
    },
    /// `include` names something that several packages provide.
    #[error("`{name}` is provided by several packages: {}", providers.join(", "))]
    Virtual {
        /// As written.
        name: String,
        /// Who provides it.
        providers: Vec<String>,
    },
    /// What is included does not go together.
    #[error("these packages cannot be installed together:{}", reasons.iter().map(|it| format!("\n  {it}")).collect::<String>())]
    Unsolvable {
        /// What stands in the way, one reason each.
        reasons: Vec<String>,
    },
    /// A dependency that nothing fulfils.
    #[error("nothing in the suite fulfils the dependency `{relation}` ({})", chain.join(" → "))]
    Unsatisfiable {
        /// The dependency, as the package writes it.
        relation: String,
        /// Who needs whom, from a root to the package with the dependency.
        chain: Vec<String>,
    },
    /// A field that cannot be parsed.
    #[error("package `{package}` has an odd field `{field}`: {problem}")]
    Field {
        /// The package.
        package: String,
        /// The field.
        field: &'static str,
        /// What is odd.
        problem: String,
    },
}

/// A chosen package.
#[derive(Clone, Debug)]
pub struct Chosen<'a> {
    /// The package.
    pub package: Package<'a>,
    /// What it is there for.
    pub stage: Stage,
    /// `include` names it.
    pub wanted: bool,
}

/// What a package is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Essential, or needed by an essential package.
    Essential,
    /// Part of the variant.
    Base,
    /// Included, or needed by such a package.
    Included,
}

/// One package of `include`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include<'s> {
    /// Its name.
    pub name: &'s str,
    /// Suite that it must come from, and the number of its archive, if there is one.
    pub suite: Option<(&'s str, Option<usize>)>,
}

/// The packages of a variant in unpacking order: the essential set first; each package after those that it
/// pre-depends on and, where there is no cycle, after those that it depends on. Those that `include` brings follow.
pub fn closure<'a>(
    packages: &[Package<'a>],
    variant: Variant,
    include: &[Include],
) -> Result<Vec<Chosen<'a>>, ClosureError> {
    let index = Index::new(packages, include)?;
    let mut set = Set {
        index: &index,
        allowed: None,
        chosen: BTreeMap::new(),
        queue: VecDeque::new(),
        open: VecDeque::new(),
    };
    // The essential set is closed first, so that nothing outside influences its choices.
    set.close(index.names(|it| it.essential))?;
    let essential: BTreeSet<&str> = set.chosen.keys().copied().collect();
    match variant {
        Variant::Minbase => set.close(index.names(|it| it.priority == Priority::Required))?,
        Variant::Apt => {}
    }
    set.close(vec!["apt"])?;
    let mut order: Vec<(&str, Stage)> = Vec::new();
    for name in set.order(&essential)? {
        order.push((name, if essential.contains(name) { Stage::Essential } else { Stage::Base }));
    }
    let wanted = include.iter().map(|it| index.wanted(it.name)).collect::<Result<BTreeSet<_>, _>>()?;
    if !wanted.is_empty() {
        let base: BTreeSet<&str> = set.chosen.keys().copied().collect();
        // The solver finds packages that go together; of them, those are taken that are needed.
        set.allowed = Some(solve::solve(&index, &base, &wanted)?);
        set.close(wanted.iter().copied().collect())?;
        let all = set.order(&essential)?;
        order.extend(all.into_iter().filter(|it| !base.contains(it)).map(|it| (it, Stage::Included)));
    }
    let chosen = |(name, stage): (&str, Stage)| {
        let package = index.real.get(name)?.package.clone();
        Some(Chosen { package, stage, wanted: wanted.contains(name) })
    };
    Ok(order.into_iter().filter_map(chosen).collect())
}

/// What can be had.
pub(super) struct Index<'p, 'a> {
    pub(super) real: BTreeMap<&'a str, Candidate<'p, 'a>>,
    /// Virtual name → name of provider, provided version.
    provided: HashMap<String, Vec<(&'a str, Option<Version>)>>,
}

pub(super) struct Candidate<'p, 'a> {
    pub(super) package: &'p Package<'a>,
    version: Version,
}

impl<'p, 'a> Index<'p, 'a> {
    /// Of several versions of a package the highest counts, of those in archives of the highest rank; unless a suite
    /// is named.
    fn new(packages: &'p [Package<'a>], include: &[Include]) -> Result<Index<'p, 'a>, ClosureError> {
        let pinned: BTreeMap<&str, Option<usize>> =
            include.iter().filter_map(|it| Some((it.name, it.suite?.1))).collect();
        let mut real: BTreeMap<&'a str, Candidate<'p, 'a>> = BTreeMap::new();
        for package in packages {
            if pinned.get(package.name).is_some_and(|archive| *archive != Some(package.archive)) {
                continue;
            }
            let version = package.version.parse::<Version>().map_err(|err| odd(package, "Version", err))?;
            match real.get(package.name) {
                Some(known) if (known.package.rank, &known.version) >= (package.rank, &version) => {}
                _ => drop(real.insert(package.name, Candidate { package, version })),
            }
        }
        let missing = include.iter().find(|it| it.suite.is_some() && !real.contains_key(it.name));
        if let Some(Include { name, suite: Some((suite, _)) }) = missing {
            return Err(ClosureError::NotInSuite { name: name.to_string(), suite: suite.to_string() });
        }
        let mut provided: HashMap<String, Vec<(&'a str, Option<Version>)>> = HashMap::new();
        for (name, candidate) in &real {
            for relation in
                relations(candidate.package, "Provides", candidate.package.provides)?.into_iter().flatten()
            {
                let version = relation.version.map(|(_, version)| version);
                provided.entry(relation.name).or_default().push((name, version));
            }
        }
        Ok(Index { real, provided })
    }

    fn names(&self, wanted: impl Fn(&Package) -> bool) -> Vec<&'a str> {
        self.real.iter().filter(|(_, it)| wanted(it.package)).map(|(name, _)| *name).collect()
    }

    /// The package that `include` means: the one of that name, else the only one that provides it.
    fn wanted(&self, name: &str) -> Result<&'a str, ClosureError> {
        let relation = Relation { name: name.to_owned(), ..Relation::new() };
        match self.fulfilling(&relation)[..] {
            [real, ..] if real == name => Ok(real),
            [only] => Ok(only),
            [] => {
                let near = suggest::nearest(name, self.real.keys().copied());
                Err(ClosureError::NoInclude { name: name.to_owned(), near: near.map(str::to_owned) })
            }
            ref several => {
                let providers = several.iter().map(|it| it.to_string()).collect();
                Err(ClosureError::Virtual { name: name.to_owned(), providers })
            }
        }
    }

    /// Who fulfils a relation: the package of that name first, then providers, best first.
    pub(super) fn fulfilling(&self, relation: &Relation) -> Vec<&'a str> {
        if relation.archqual.as_deref().is_some_and(|it| !["any", "native", ARCHITECTURE].contains(&it)) {
            return Vec::new();
        }
        let real = self.real.get_key_value(relation.name.as_str());
        let real = real.filter(|(_, it)| fits(relation, Some(&it.version))).map(|(name, _)| *name);
        let mut virtuals: Vec<&'a str> =
            self.provided.get(&relation.name).map_or_else(Vec::new, |providers| {
                let fitting = providers.iter().filter(|(_, version)| fits(relation, version.as_ref()));
                fitting.map(|(name, _)| *name).collect()
            });
        virtuals.sort_by_key(|name| (self.real.get(name).map(|it| it.package.priority), *name));
        real.into_iter().chain(virtuals).collect()
    }
}

impl<'a> Index<'_, 'a> {
    /// Pre-dependencies, then dependencies.
    pub(super) fn dependencies(&self, name: &str) -> Result<Vec<Vec<Relation>>, ClosureError> {
        let Some(candidate) = self.real.get(name) else { return Ok(Vec::new()) };
        let mut groups = relations(candidate.package, "Pre-Depends", candidate.package.pre_depends)?;
        groups.extend(relations(candidate.package, "Depends", candidate.package.depends)?);
        Ok(groups)
    }

    /// Packages that cannot be there beside this one, each with the relation that says so.
    pub(super) fn excluded(&self, name: &str) -> Result<Vec<(&'a str, String)>, ClosureError> {
        let Some(candidate) = self.real.get(name) else { return Ok(Vec::new()) };
        let mut excluded = Vec::new();
        for (field, text) in
            [("Conflicts", candidate.package.conflicts), ("Breaks", candidate.package.breaks)]
        {
            for relation in relations(candidate.package, field, text)?.into_iter().flatten() {
                // A package that provides what it conflicts with wants to be the only one.
                let others = self.fulfilling(&relation).into_iter().filter(|it| *it != name);
                excluded.extend(others.map(|it| (it, format!("{field}: {relation}"))));
            }
        }
        Ok(excluded)
    }

    /// All that fulfil one of the alternatives, best first.
    pub(super) fn candidates(&self, group: &[Relation]) -> Vec<&'a str> {
        let mut found = Vec::new();
        for name in group.iter().flat_map(|it| self.fulfilling(it)) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }
}

/// A constraint on a version needs a version.
fn fits(relation: &Relation, version: Option<&Version>) -> bool {
    let Some((constraint, wanted)) = &relation.version else { return true };
    version.is_some_and(|version| match constraint {
        VersionConstraint::LessThan => version < wanted,
        VersionConstraint::LessThanEqual => version <= wanted,
        VersionConstraint::Equal => version == wanted,
        VersionConstraint::GreaterThanEqual => version >= wanted,
        VersionConstraint::GreaterThan => version > wanted,
    })
}

/// A growing set of packages.
struct Set<'i, 'p, 'a> {
    index: &'i Index<'p, 'a>,
    /// Nothing else may be chosen.
    allowed: Option<BTreeSet<&'a str>>,
    /// Package → who needed it first; none for roots.
    chosen: BTreeMap<&'a str, Option<&'a str>>,
    /// Chosen packages whose dependencies were not looked at yet.
    queue: VecDeque<&'a str>,
    /// Dependencies with a choice: who has it, the alternatives.
    open: VecDeque<(&'a str, Vec<Relation>)>,
}

impl<'a> Set<'_, '_, 'a> {
    /// Adds roots and everything they need. Dependencies without a choice are followed first; a choice is
    /// made only when nothing chosen so far fulfils it.
    fn close(&mut self, roots: Vec<&'a str>) -> Result<(), ClosureError> {
        for root in roots {
            if !self.index.real.contains_key(root) {
                return Err(ClosureError::NoPackage(root.to_string()));
            }
            self.add(root, None);
        }
        loop {
            if let Some(name) = self.queue.pop_front() {
                for group in self.dependencies(name)? {
                    self.visit(name, group)?;
                }
            } else if let Some((name, group)) = self.open.pop_front() {
                let candidates = self.candidates(&group);
                let preferred = candidates.iter().find(|it| **it == MERGED).or(candidates.first());
                match preferred {
                    _ if candidates.iter().any(|it| self.chosen.contains_key(it)) => {}
                    Some(preferred) => self.add(preferred, Some(name)),
                    None => return Err(self.unsatisfiable(name, group)),
                }
            } else {
                return Ok(());
            }
        }
    }

    fn visit(&mut self, name: &'a str, group: Vec<Relation>) -> Result<(), ClosureError> {
        match self.candidates(&group)[..] {
            [] => return Err(self.unsatisfiable(name, group)),
            [only] => self.add(only, Some(name)),
            _ => self.open.push_back((name, group)),
        }
        Ok(())
    }

    fn add(&mut self, name: &'a str, needed_by: Option<&'a str>) {
        if !self.chosen.contains_key(name) {
            self.chosen.insert(name, needed_by);
            self.queue.push_back(name);
        }
    }

    /// All that fulfil one of the alternatives and may be chosen, best first.
    fn candidates(&self, group: &[Relation]) -> Vec<&'a str> {
        let mut found = self.index.candidates(group);
        if let Some(allowed) = &self.allowed {
            found.retain(|it| allowed.contains(it));
        }
        found
    }

    fn dependencies(&self, name: &str) -> Result<Vec<Vec<Relation>>, ClosureError> {
        self.index.dependencies(name)
    }

    fn unsatisfiable(&self, name: &'a str, group: Vec<Relation>) -> ClosureError {
        let mut chain = vec![name.to_string()];
        let mut at = name;
        while let Some(Some(parent)) = self.chosen.get(at) {
            chain.push(parent.to_string());
            at = parent;
        }
        chain.reverse();
        ClosureError::Unsatisfiable { relation: Relations(vec![group]).to_string(), chain }
    }

    /// Depth first over dependencies gives a good order; where that breaks a pre-dependency because of a
    /// cycle, packages wait until theirs are out.
    fn order(&self, base: &BTreeSet<&str>) -> Result<Vec<&'a str>, ClosureError> {
        let mut depth_first = Vec::new();
        let mut seen = BTreeSet::new();
        for name in self.chosen.keys().filter(|it| base.contains(*it)).chain(self.chosen.keys()) {
            self.walk(name, &mut seen, &mut depth_first)?;
        }
        let mut before = BTreeMap::new();
        for name in &depth_first {
            let Some(candidate) = self.index.real.get(name) else { continue };
            let groups = relations(candidate.package, "Pre-Depends", candidate.package.pre_depends)?;
            let needed: Vec<&str> =
                groups.iter().filter_map(|it| self.chosen_of(it)).filter(|it| it != name).collect();
            before.insert(*name, needed);
        }
        let mut order = Vec::new();
        while !depth_first.is_empty() {
            let ready =
                |name: &&str| before.get(name).is_none_or(|it| it.iter().all(|it| order.contains(it)));
            // A cycle of pre-dependencies is an error of the archive; dpkg will say so.
            let next = depth_first.iter().position(ready).unwrap_or(0);
            order.push(depth_first.remove(next));
        }
        order.sort_by_key(|name| Reverse(base.contains(name)));
        Ok(order)
    }

    fn walk(
        &self,
        name: &'a str,
        seen: &mut BTreeSet<&'a str>,
        out: &mut Vec<&'a str>,
    ) -> Result<(), ClosureError> {
        if seen.insert(name) {
            for group in self.dependencies(name)? {
                if let Some(needed) = self.chosen_of(&group) {
                    self.walk(needed, seen, out)?;
                }
            }
            out.push(name);
        }
        Ok(())
    }

    /// The chosen package that fulfils a dependency.
    fn chosen_of(&self, group: &[Relation]) -> Option<&'a str> {
        self.candidates(group).into_iter().find(|it| self.chosen.contains_key(it))
    }
}

fn relations(package: &Package, field: &'static str, text: &str) -> Result<Vec<Vec<Relation>>, ClosureError> {
    match text.parse::<Relations>() {
        Ok(relations) => Ok(relations.0),
        Err(err) => Err(odd(package, field, err)),
    }
}

fn odd(package: &Package, field: &'static str, problem: impl ToString) -> ClosureError {
    ClosureError::Field { package: package.name.to_string(), field, problem: problem.to_string() }
}

#[cfg(test)]
mod tests;
