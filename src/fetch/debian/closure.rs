//! Which packages a base consists of: the roots of a variant and all that they depend on.
//!
//! There is no search: the first alternative that can be had is taken, as apt does for a fresh system. What
//! must be decided is decided late, by priority and name, so that equal indices give equal sets.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use debian_control::lossy::{Relation, Relations};
use debian_control::relations::VersionConstraint;
use debversion::Version;

use super::Variant;
use super::packages::{ARCHITECTURE, Package, Priority};

/// States that `/bin`, `/lib`, … are links into `/usr`. Bookworm depends on it or on the program (in Perl) that
/// would make them so; our roots are made with these links.
const MERGED: &str = "usr-is-merged";

/// Why there is no such set.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// A package that every Debian has.
    #[error("the suite has no package `{0}`")]
    NoPackage(String),
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
    /// Essential, or needed by an essential package.
    pub base: bool,
}

/// The packages of a variant in unpacking order: the essential set first; each package after those that it
/// pre-depends on and, where there is no cycle, after those that it depends on.
pub fn closure<'a>(packages: &[Package<'a>], variant: Variant) -> Result<Vec<Chosen<'a>>, ClosureError> {
    let index = Index::new(packages)?;
    let mut set =
        Set { index: &index, chosen: BTreeMap::new(), queue: VecDeque::new(), open: VecDeque::new() };
    // The essential set is closed first, so that nothing outside influences its choices.
    set.close(index.names(|it| it.essential))?;
    let base: BTreeSet<&str> = set.chosen.keys().copied().collect();
    match variant {
        Variant::Minbase => set.close(index.names(|it| it.priority == Priority::Required))?,
        Variant::Apt => {}
    }
    set.close(vec!["apt"])?;
    let order = set.order(&base)?;
    let chosen = |name: &str| index.real.get(name).map(|it| (it.package.clone(), base.contains(name)));
    Ok(order.into_iter().filter_map(chosen).map(|(package, base)| Chosen { package, base }).collect())
}

/// What can be had.
struct Index<'p, 'a> {
    real: BTreeMap<&'a str, Candidate<'p, 'a>>,
    /// Virtual name → name of provider, provided version.
    provided: HashMap<String, Vec<(&'a str, Option<Version>)>>,
}

struct Candidate<'p, 'a> {
    package: &'p Package<'a>,
    version: Version,
}

impl<'p, 'a> Index<'p, 'a> {
    /// Of several versions of a package the highest counts.
    fn new(packages: &'p [Package<'a>]) -> Result<Index<'p, 'a>, ClosureError> {
        let mut real: BTreeMap<&'a str, Candidate<'p, 'a>> = BTreeMap::new();
        for package in packages {
            let version = package.version.parse::<Version>().map_err(|err| odd(package, "Version", err))?;
            match real.get(package.name) {
                Some(known) if known.version >= version => {}
                _ => drop(real.insert(package.name, Candidate { package, version })),
            }
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

    /// Who fulfils a relation: the package of that name first, then providers, best first.
    fn fulfilling(&self, relation: &Relation) -> Vec<&'a str> {
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

    /// Pre-dependencies, then dependencies.
    fn dependencies(&self, name: &str) -> Result<Vec<Vec<Relation>>, ClosureError> {
        let Some(candidate) = self.index.real.get(name) else { return Ok(Vec::new()) };
        let mut groups = relations(candidate.package, "Pre-Depends", candidate.package.pre_depends)?;
        groups.extend(relations(candidate.package, "Depends", candidate.package.depends)?);
        Ok(groups)
    }

    /// All that fulfil one of the alternatives, best first.
    fn candidates(&self, group: &[Relation]) -> Vec<&'a str> {
        let mut found = Vec::new();
        for name in group.iter().flat_map(|it| self.index.fulfilling(it)) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
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
