//! `raptor store export` and `import`: trees on their way to other stores.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::json;

use super::name::{bytes, find};
use super::{Export, Import};
use crate::cli::errors::{CliError, with_sources};
use crate::cli::session::Session;
use crate::derivation::{self, DrvId};
use crate::schedule::Origins;
use crate::store::{ArchiveError, Contents, Known};

pub fn export(session: &Session, args: &Export) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let origins = Origins::read(&store)?;
    let mut contents = Contents::default();
    for name in &args.trees {
        let hash = find(session, &store, name)?;
        contents.trees.insert(hash);
        if args.only {
            continue;
        }
        // Of several derivations with the same output, one that is here as a whole.
        let whole =
            origins.of(&hash).into_iter().find_map(|id| with_inputs(&store, &origins, id).transpose());
        if let Some(more) = whole.transpose()? {
            contents.trees.extend(more.trees);
            contents.derivations.extend(more.derivations);
            contents.realized.extend(more.realized);
        }
    }
    match &args.output {
        None if std::io::stdout().is_terminal() => {
            return Err(CliError::Usage("an archive is not for terminals; use --output".into()));
        }
        None => store.export(&contents, &mut std::io::stdout().lock()).map_err(failed)?,
        Some(file) => {
            let dir = file.parent().filter(|it| !it.as_os_str().is_empty());
            let mut temp = tempfile::NamedTempFile::new_in(dir.unwrap_or(std::path::Path::new(".")))?;
            store.export(&contents, &mut std::io::BufWriter::new(&mut temp)).map_err(failed)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            temp.as_file().set_permissions(mode)?;
            temp.as_file().sync_all()?;
            temp.persist(file).map_err(|err| err.error)?;
        }
    }
    session.ui.info(&format!("exported {} trees", contents.trees.len()));
    Ok(ExitCode::SUCCESS)
}

/// A derivation with everything it was built from, if all of that is here.
fn with_inputs(
    store: &crate::store::Store,
    origins: &Origins,
    id: DrvId,
) -> Result<Option<Contents>, CliError> {
    let mut contents = Contents::default();
    for id in derivation::closure(&origins.derivations, &[id]) {
        let output = origins.outputs.get(&id).and_then(|it| it.0.last());
        let (Some(output), Some(key)) = (output, origins.keys.get(&id)) else { return Ok(None) };
        if store.info(output)?.is_none() {
            return Ok(None);
        }
        contents.trees.insert(*output);
        contents.derivations.insert(id.to_string());
        if store.recorded(key)?.is_some() {
            contents.realized.insert((*key, *output));
        }
    }
    Ok(Some(contents))
}

pub fn import(session: &Session, args: &Import) -> Result<ExitCode, CliError> {
    let store = session.store()?;
    let known = if args.trust { Known::Trusted } else { Known::Checked };
    let done = match &args.file {
        Some(file) => {
            let mut file = std::io::BufReader::new(fs_err::File::open(file)?);
            store.import(&mut file, known)
        }
        None => store.import(&mut std::io::stdin().lock(), known),
    };
    let done = done.map_err(failed)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let report = json!({ "trees": done.trees, "new": done.new, "derivations": done.derivations,
            "realized": done.realized });
        writeln!(out, "{report}")?;
        return Ok(ExitCode::SUCCESS);
    }
    for info in &done.trees {
        writeln!(out, "{}", store.path(&info.hash).display())?;
    }
    let size = bytes(done.trees.iter().map(|it| it.bytes).sum());
    session.ui.info(&format!("imported {} trees with {size}, {} of them new", done.trees.len(), done.new));
    Ok(ExitCode::SUCCESS)
}

fn failed(error: ArchiveError) -> CliError {
    match error {
        ArchiveError::Store(error) => error.into(),
        ArchiveError::Io(error) => error.into(),
        error => CliError::Other(with_sources(&error)),
    }
}
