//! Derivations of Debian roots.

use serde::{Deserialize, Serialize};

use super::inputs::Part;
use crate::lock::DebianPackage;

/// A Debian root file system from a pinned list of packages. What a base of one suite does not have is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap<R> {
    /// For people and layer names.
    pub name: String,
    /// `x86_64-linux`
    pub system: String,
    /// [`SANDBOX`](super::SANDBOX)
    pub sandbox: u32,
    /// What it is, if not Debian: its mirror is then the only one there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<String>,
    /// Suite, for the apt sources of the image.
    pub suite: String,
    /// Components, for the apt sources of the image.
    pub components: Vec<String>,
    /// Mirror, for the apt sources of the image.
    pub mirror: String,
    /// Keys that stand for Debian's.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub keyring: Option<KeyFile<R>>,
    /// Further suites and repositories.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<Repository<R>>,
    /// The packages in unpack order.
    pub packages: Vec<DebianPackage>,
    /// Packages that apt installs then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<DebianPackage>,
    /// Latest time stamp, in seconds since 1970.
    pub epoch: i64,
}

/// A file of keys for apt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFile<R> {
    /// File name in `/etc/apt/keyrings`: apt goes by the extension, `.asc` or `.gpg`.
    pub name: String,
    /// A [`Source`](super::Source).
    pub source: R,
}

/// One further suite of a base.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Repository<R> {
    /// Name of the repository; none for suites of the distribution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Mirror or repository, for the apt sources of the image.
    pub url: String,
    /// Suite, or a directory with `/` at its end.
    pub suite: String,
    /// Its components.
    pub components: Vec<String>,
    /// Its own keys.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyFile<R>>,
}

impl<R> Repository<R> {
    /// How packages name it.
    pub fn id(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.suite)
    }
}

impl<R> Bootstrap<R> {
    /// All packages.
    pub fn all(&self) -> impl Iterator<Item = &DebianPackage> {
        self.packages.iter().chain(&self.included)
    }

    pub(super) fn map<S, E>(
        &self,
        name: &mut dyn FnMut(&R, Part) -> Result<S, E>,
    ) -> Result<Bootstrap<S>, E> {
        let mut key = |it: &Option<KeyFile<R>>| -> Result<Option<KeyFile<S>>, E> {
            let Some(it) = it else { return Ok(None) };
            Ok(Some(KeyFile { name: it.name.clone(), source: name(&it.source, Part::Own)? }))
        };
        let keyring = key(&self.keyring)?;
        let repositories = self.repositories.iter().map(|it| {
            Ok(Repository {
                name: it.name.clone(),
                url: it.url.clone(),
                suite: it.suite.clone(),
                components: it.components.clone(),
                key: key(&it.key)?,
            })
        });
        Ok(Bootstrap {
            repositories: repositories.collect::<Result<_, _>>()?,
            keyring,
            name: self.name.clone(),
            system: self.system.clone(),
            sandbox: self.sandbox,
            distribution: self.distribution.clone(),
            suite: self.suite.clone(),
            components: self.components.clone(),
            mirror: self.mirror.clone(),
            packages: self.packages.clone(),
            included: self.included.clone(),
            epoch: self.epoch,
        })
    }
}
