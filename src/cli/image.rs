//! What images say about running them: from their files, or from the configuration that the lock pins.

use raptor_lang::stmt::Digest;
use serde_json::{Value, json};

use super::errors::{CliError, with_sources};
use super::session::Session;
use crate::derivation::Fetch;
use crate::eval::{BaseImage, SettingsAt};
use crate::fetch::{self, Wanted};
use crate::image::{self, ImageSettings};
use crate::store::Key;

/// What an image says about running it, if that can be had; else a warning tells why not.
pub fn settings(session: &Session, base: &BaseImage) -> Result<Option<ImageSettings>, CliError> {
    let fetch = match &base.settings {
        SettingsAt::Here(settings) => return Ok(Some(settings.clone())),
        SettingsAt::Fetched(fetch) => fetch,
    };
    match fetched(session, fetch)? {
        Ok(settings) => Ok(Some(settings)),
        Err(why) => {
            session.ui.warning(&format!("the settings of {} cannot be shown: {why}", base.name));
            Ok(None)
        }
    }
}

fn fetched(session: &Session, fetch: &Fetch) -> Result<Result<ImageSettings, String>, CliError> {
    let Fetch { name, urls, digest: Digest::Sha256(sha256), size: Some(size) } = fetch.clone() else {
        return Ok(Err("its configuration is not pinned".to_owned()));
    };
    let wanted = Wanted { name, urls, sha256, size };
    let path = match session.client()?.download(&wanted, &session.store()?, &|_| {}) {
        Ok(path) => path,
        Err(fetch::Error::Store(error)) => return Err(error.into()),
        Err(error) => return Ok(Err(with_sources(&error))),
    };
    let config = image::config(&fs_err::read(path)?);
    Ok(config.map(|it| ImageSettings::of(&it)).map_err(|it| it.message))
}

/// The configuration of an image, if it was fetched, as a body of the store.
pub fn body(base: &BaseImage) -> Option<Key> {
    match &base.settings {
        SettingsAt::Fetched(Fetch { digest: Digest::Sha256(sha256), size: Some(size), .. }) => {
            Some(Key::fetched(sha256, *size))
        }
        _ => None,
    }
}

/// The JSON of an image, with its settings where they are known.
pub fn json(base: &BaseImage, settings: Option<&ImageSettings>) -> Value {
    let mut value = json!({ "name": base.name });
    if let (Some(all), Ok(Value::Object(settings))) = (value.as_object_mut(), serde_json::to_value(settings))
    {
        all.extend(settings);
    }
    value
}

/// Lines for people: the image, and each of its settings that is not empty.
pub fn lines(base: &BaseImage, settings: Option<&ImageSettings>) -> Vec<String> {
    let mut lines = vec![base.name.clone()];
    let Some(ImageSettings { entrypoint, cmd, env, workdir, user, labels }) = settings else { return lines };
    let argv = |words: &[String]| words.iter().map(|it| format!("{it:?}")).collect::<Vec<_>>().join(" ");
    let shown = |text: &str| text.escape_debug().to_string();
    let mut line = |name: &str, value: String| lines.push(format!("  {name} {value}"));
    if !entrypoint.is_empty() {
        line("ENTRYPOINT", argv(entrypoint));
    }
    if !cmd.is_empty() {
        line("CMD", argv(cmd));
    }
    env.iter().for_each(|it| line("ENV", shown(it)));
    workdir.iter().for_each(|it| line("WORKDIR", shown(it)));
    user.iter().for_each(|it| line("user", shown(it)));
    labels.iter().for_each(|(name, value)| line("label", format!("{}={}", shown(name), shown(value))));
    lines
}
