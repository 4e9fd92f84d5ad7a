//! Plain lines, which stay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::trace::Trace;
use super::{Show, first_line, megabytes};
use crate::cli::ui::Ui;
use crate::derivation::{Derivation, DrvId};
use crate::schedule::Progress;

/// A line for what begins and ends; with `-v` also what programs print.
pub struct Lines {
    ui: Arc<Ui>,
    /// Quarters of the downloads that were told.
    quarters: Mutex<BTreeMap<DrvId, u64>>,
    /// Output that waits for the end of its line.
    output: Mutex<Output>,
}

impl Lines {
    pub fn new(ui: Arc<Ui>) -> Lines {
        Lines { ui, quarters: Mutex::default(), output: Mutex::default() }
    }
}

impl Show for Lines {
    fn event(&self, trace: &mut Trace, event: Progress<'_>) {
        match event {
            Progress::Planned { .. } | Progress::StepDone { .. } => {}
            // Importing a project file is too quick to talk about.
            Progress::Started { derivation: Derivation::Source(_), .. } => {}
            Progress::Started { derivation, .. } => {
                let doing = if is_download(derivation) { "fetching" } else { "building" };
                self.ui.info(&format!("{} {doing} {}", counter(trace), derivation.name()));
            }
            Progress::Resumed { id, number, of } => {
                self.ui.info(&format!("{}: resumed at step {number} of {of}", trace.name(&id)));
            }
            Progress::Step { id, number, of, text } => {
                self.ui.info(&format!("{}: {number}/{of} {}", trace.name(&id), first_line(text)));
            }
            Progress::Output { id, bytes } => {
                let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
                for line in output.lines(id, bytes) {
                    self.ui.detail(&format!("{}| {line}", trace.name(&id)));
                }
            }
            Progress::Fetched { id, bytes, total: Some(total), .. } => {
                // A line for every quarter is enough where lines stay.
                let quarter = bytes.saturating_mul(4) / total.max(1);
                let mut quarters = self.quarters.lock().unwrap_or_else(PoisonError::into_inner);
                if quarters.insert(id, quarter).unwrap_or(0) < quarter {
                    let (bytes, total) = (megabytes(bytes), megabytes(total));
                    self.ui.info(&format!("{}: fetched {bytes} of {total}", trace.name(&id)));
                }
            }
            Progress::Fetched { .. } => {}
            Progress::Done { derivation, reused, millis, .. } => {
                let (counter, name) = (counter(trace), derivation.name());
                if reused || matches!(derivation, Derivation::Source(_)) {
                    self.ui.detail(&format!("{counter} reused {name}"));
                    return;
                }
                let seconds = Duration::from_millis(millis).as_secs_f64();
                let did = if is_download(derivation) { "fetched" } else { "built" };
                self.ui.info(&format!("{counter} {did} {name} in {seconds:.1} s"));
            }
            // The reasons come at the end, which others may keep waiting.
            Progress::Failed { derivation, .. } => self.ui.info(&format!("failed {}", derivation.name())),
        }
    }
}

/// Output of programs, cut into lines.
#[derive(Default)]
pub struct Output(BTreeMap<DrvId, Vec<u8>>);

impl Output {
    /// The lines that are whole now.
    pub fn lines(&mut self, id: DrvId, bytes: &[u8]) -> Vec<String> {
        let line = self.0.entry(id).or_default();
        line.extend_from_slice(bytes);
        let Some(end) = line.iter().rposition(|it| *it == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = line.drain(..=end).collect();
        String::from_utf8_lossy(&whole).lines().map(|it| it.trim_end().to_owned()).collect()
    }
}

fn counter(trace: &Trace) -> String {
    format!("[{}/{}]", trace.n_done(), trace.works.len())
}

fn is_download(derivation: &Derivation) -> bool {
    matches!(derivation, Derivation::Fetch(_))
}
