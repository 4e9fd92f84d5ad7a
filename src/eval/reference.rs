//! Bases that are not modules: what can be said of their text without asking anybody.

use raptor_lang::source::Span;

use super::findings::Findings;
use super::{Failed, Provenance, Stack, StackLayer, Unpinned};
use crate::derivation::{Bootstrap, Derivation, SANDBOX, SYSTEM};

/// Suite of the text after `debian://`.
fn suite(reference: &str) -> &str {
    reference.split('?').next().unwrap_or(reference)
}

impl Findings<'_> {
    /// The stack of `FROM debian://REFERENCE`, if the lock pins it.
    pub(super) fn debian(&mut self, reference: &str, span: Span) -> Result<Stack, Failed> {
        let Some(pin) = self.lock.debian.get(reference) else {
            let wanted = Unpinned::Debian(reference.to_owned());
            return Err(self.unpinned(wanted, (span, Vec::new())));
        };
        let name = format!("debian-{}", suite(reference));
        let bootstrap = Bootstrap {
            name: name.clone(),
            system: SYSTEM.to_owned(),
            sandbox: SANDBOX,
            suite: suite(reference).to_owned(),
            components: pin.components.clone(),
            mirror: pin.mirror.clone(),
            packages: pin.packages.clone(),
            epoch: pin.date,
        };
        let epoch = pin.date;
        let provenance = Provenance { place: Some((span, Vec::new())), ..Provenance::default() };
        let id = self.add(Derivation::Bootstrap(bootstrap), provenance);
        Ok(vec![StackLayer { name, id, epoch }])
    }
}
