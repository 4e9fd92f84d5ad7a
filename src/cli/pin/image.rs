//! Pinning an image of a registry.

use raptor_lang::def::DockerReference;

use super::super::errors::CliError;
use super::super::session::Session;
use crate::fetch;
use crate::lock::DockerPin;

/// What the registry has now under a reference: the text after `docker://`, which evaluation has accepted.
pub fn pin(session: &Session, text: &str) -> Result<Result<DockerPin, fetch::Error>, CliError> {
    let reference: DockerReference =
        text.parse().map_err(|err| CliError::Other(format!("docker://{text}: {err}")))?;
    let (client, store) = (session.client()?, session.store()?);
    let busy = session.ui.busy(&format!("asking for docker://{text}"));
    let pinned = client.pin_image(&reference, &store, &session.cancel);
    busy.finish_and_clear();
    Ok(pinned)
}
