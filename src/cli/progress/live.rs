//! Live lines of a terminal: one for each derivation at work, and a summary below them.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use super::trace::{End, Trace};
use super::{Show, first_line, megabytes, printable};
use crate::cli::ui::TICK;
use crate::derivation::{Derivation, DrvId};
use crate::schedule::{Estimate, Progress};

const WORK: &str = "{spinner} {prefix:.bold} {wide_msg} {fetched}{elapsed}";
const SUMMARY: &str = "{msg}, {elapsed}{left}";

/// Draws what goes on.
pub struct Live {
    multi: MultiProgress,
    lines: Mutex<Lines>,
}

#[derive(Default)]
struct Lines {
    summary: Option<Summary>,
    works: BTreeMap<DrvId, WorkLine>,
}

/// The line of a derivation. Drawing happens on a thread of its own, which must wait for nobody: so it reads atomics.
struct WorkLine {
    bar: ProgressBar,
    fetched: Arc<Fetched>,
}

#[derive(Default)]
struct Fetched {
    bytes: AtomicU64,
    /// 0 while it is not known.
    total: AtomicU64,
}

struct Summary {
    bar: ProgressBar,
    left: Arc<Left>,
}

/// When the build is expected to end.
#[derive(Default)]
struct Left {
    /// In milliseconds since the summary began; 0 if nobody knows.
    end: AtomicU64,
    /// It may be later.
    at_least: AtomicBool,
}

impl Live {
    pub fn new(multi: &MultiProgress) -> Live {
        Live { multi: multi.clone(), lines: Mutex::default() }
    }

    fn begin(&self, lines: &mut Lines) {
        self.clear(lines);
        let left: Arc<Left> = Arc::default();
        let shown = left.clone();
        let draw = move |state: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&shown.text(state.elapsed()));
        };
        let bar = self.multi.add(ProgressBar::new_spinner());
        set_style(&bar, SUMMARY, |style| style.with_key("left", draw));
        bar.enable_steady_tick(TICK);
        lines.summary = Some(Summary { bar, left });
    }

    fn start(&self, lines: &mut Lines, id: DrvId, name: &str) {
        let fetched: Arc<Fetched> = Arc::default();
        let shown = fetched.clone();
        let draw = move |_: &ProgressState, out: &mut dyn Write| {
            let _ = out.write_str(&shown.text());
        };
        let bar = match &lines.summary {
            Some(summary) => self.multi.insert_before(&summary.bar, ProgressBar::new_spinner()),
            None => self.multi.add(ProgressBar::new_spinner()),
        };
        set_style(&bar, WORK, |style| style.with_key("fetched", draw));
        bar.set_prefix(printable(name));
        bar.enable_steady_tick(TICK);
        lines.works.insert(id, WorkLine { bar, fetched });
    }

    fn clear(&self, lines: &mut Lines) {
        for line in std::mem::take(&mut lines.works).into_values() {
            line.bar.finish_and_clear();
        }
        if let Some(summary) = lines.summary.take() {
            summary.bar.finish_and_clear();
        }
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Show for Live {
    fn event(&self, trace: &mut Trace, event: Progress<'_>) {
        let mut lines = self.lines();
        match event {
            Progress::Planned { .. } => self.begin(&mut lines),
            // Importing a project file is too quick to talk about.
            Progress::Started { derivation: Derivation::Source(_), .. } => {}
            Progress::Started { id, derivation, .. } => self.start(&mut lines, id, derivation.name()),
            Progress::Step { id, number, of, text } => {
                if let Some(line) = lines.works.get(&id) {
                    line.bar.set_message(format!("{number}/{of} {}", first_line(text)));
                }
            }
            Progress::Fetched { id, bytes, total, .. } => {
                if let Some(line) = lines.works.get(&id) {
                    line.fetched.bytes.store(bytes, Ordering::Relaxed);
                    line.fetched.total.store(total.unwrap_or(0), Ordering::Relaxed);
                }
            }
            Progress::Done { id, .. } => lines.end(&id),
            Progress::Failed { id, derivation } => {
                lines.end(&id);
                // The reasons come at the end, which others may keep waiting.
                let _ = self.multi.println(format!("failed {}", printable(derivation.name())));
            }
            Progress::Resumed { .. } | Progress::StepDone { .. } | Progress::Output { .. } => return,
        }
        if let Some(summary) = &lines.summary {
            if trace.wants_estimate(event) {
                summary.left.set(summary.bar.elapsed(), trace.estimate());
            }
            summary.bar.set_message(counts(trace));
        }
    }

    fn end(&self) {
        self.clear(&mut self.lines());
    }
}

impl Lines {
    fn end(&mut self, id: &DrvId) {
        if let Some(line) = self.works.remove(id) {
            line.bar.finish_and_clear();
        }
    }
}

impl Fetched {
    fn text(&self) -> String {
        let (bytes, total) = (self.bytes.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        match (bytes, total) {
            (0, _) => String::new(),
            (_, 0) => format!("{}  ", megabytes(bytes)),
            _ => format!("{} of {}  ", megabytes(bytes), megabytes(total)),
        }
    }
}

impl Left {
    fn set(&self, elapsed: Duration, estimate: Option<Estimate>) {
        let elapsed = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let end = estimate.map_or(0, |it| elapsed.saturating_add(it.millis));
        self.end.store(end, Ordering::Relaxed);
        self.at_least.store(estimate.is_some_and(|it| it.at_least), Ordering::Relaxed);
    }

    /// Nothing if nobody knows, or if it should have ended by now.
    fn text(&self, elapsed: Duration) -> String {
        let end = Duration::from_millis(self.end.load(Ordering::Relaxed));
        match end.saturating_sub(elapsed).as_secs_f64().ceil() as u64 {
            0 => String::new(),
            seconds => {
                let more = if self.at_least.load(Ordering::Relaxed) { "at least " } else { "" };
                format!(", ETA {more}{}", indicatif::HumanDuration(Duration::from_secs(seconds)))
            }
        }
    }
}

fn set_style(bar: &ProgressBar, template: &str, with_key: impl FnOnce(ProgressStyle) -> ProgressStyle) {
    // The templates are right; a test draws them.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(with_key(style));
    }
}

fn counts(trace: &Trace) -> String {
    let (built, reused) = (trace.count(End::Built), trace.count(End::Reused));
    let mut text = format!("{}/{} done: {built} built, {reused} reused", built + reused, trace.works.len());
    let failed = trace.count(End::Failed);
    if failed > 0 {
        text.push_str(&format!(", {failed} failed"));
    }
    let (bytes, _) = trace.fetched();
    if bytes > 0 {
        text.push_str(&format!(", {} fetched", megabytes(bytes)));
    }
    text
}
