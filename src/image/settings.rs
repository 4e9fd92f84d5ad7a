//! What an image says about running it.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::Serialize;

/// What the configuration of an image says about running it. None of it applies to what is built on the image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ImageSettings {
    /// What is started.
    pub entrypoint: Vec<String>,
    /// Its arguments; what is started where there is no entrypoint.
    pub cmd: Vec<String>,
    /// Variables, `NAME=value`.
    pub env: Vec<String>,
    /// Directory that it is started in.
    pub workdir: Option<String>,
    /// Who it runs as.
    pub user: Option<String>,
    /// Whatever its maker says.
    pub labels: BTreeMap<String, String>,
}

impl ImageSettings {
    /// The settings in a configuration.
    pub fn of(config: &ImageConfiguration) -> ImageSettings {
        let Some(config) = config.config() else { return ImageSettings::default() };
        let text = |it: &Option<String>| it.clone().filter(|it| !it.is_empty());
        ImageSettings {
            entrypoint: config.entrypoint().clone().unwrap_or_default(),
            cmd: config.cmd().clone().unwrap_or_default(),
            env: config.env().clone().unwrap_or_default(),
            workdir: text(config.working_dir()),
            user: text(config.user()),
            labels: config.labels().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect(),
        }
    }

    /// What the image runs: the entrypoint with its arguments.
    pub fn command(&self) -> Vec<String> {
        [self.entrypoint.as_slice(), self.cmd.as_slice()].concat()
    }
}
