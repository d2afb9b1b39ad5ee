//! How far a long command is: a bar with the rate on a terminal, a plain line now and then elsewhere.

use crate::output::grouped;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// The progress of one import or export, on stderr.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
    begun: Instant,
    told: Instant,
    rows: u64,
}

impl Progress {
    /// Begins; `bytes` is the whole to be gone through, if it is known. A `quiet` one says nothing.
    pub(crate) fn begin(bytes: Option<u64>, quiet: bool) -> Progress {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| bar(bytes));
        let now = Instant::now();
        Progress { bar, quiet, begun: now, told: now, rows: 0 }
    }

    /// `rows` are done, and `bytes` gone through.
    pub(crate) fn at(&mut self, rows: u64, bytes: u64) {
        self.rows = rows;
        // Asking for the time at every row would cost more than it tells.
        if self.quiet || !rows.is_multiple_of(ROWS_BETWEEN_LOOKS) {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(bytes);
                bar.set_message(format!("{} rows, {}", grouped(rows), self.rate()));
            }
            None if self.told.elapsed() >= BETWEEN_LINES => {
                self.told = Instant::now();
                eprintln!("{} rows, {}", grouped(rows), self.rate());
            }
            None => {}
        }
    }

    /// Takes the bar away and gives the time that it took.
    pub(crate) fn end(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }

    /// Says something above the bar.
    pub(crate) fn remark(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    fn rate(&self) -> String {
        rate(self.rows, self.begun.elapsed())
    }
}

/// The progress of something that is told in words, on stderr.
pub(crate) struct Steps {
    bar: Option<ProgressBar>,
    quiet: bool,
    begun: Instant,
    told: String,
}

impl Steps {
    /// Begins a way of so many steps. A `quiet` one says nothing.
    pub(crate) fn begin(steps: u64, quiet: bool) -> Steps {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{bar:32} {percent:>3}%  {msg}");
            ProgressBar::new(steps).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Steps { bar, quiet, begun: Instant::now(), told: String::new() }
    }

    /// So many are done, and this is what goes on. Where there is no terminal it is said once, until it is another.
    pub(crate) fn at(&mut self, steps: u64, words: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(steps);
                bar.set_message(words.to_string());
            }
            None if !self.quiet && self.told != words => {
                eprintln!("{words}");
                self.told = words.to_string();
            }
            None => {}
        }
    }

    /// Takes the bar away and gives the time that it took.
    pub(crate) fn end(self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.begun.elapsed()
    }
}

/// Rows in a second, as text.
pub(crate) fn rate(rows: u64, time: Duration) -> String {
    format!("{}/s", grouped((rows as f64 / time.as_secs_f64().max(0.001)) as u64))
}

fn bar(bytes: Option<u64>) -> ProgressBar {
    let (bar, template) = match bytes {
        Some(bytes) => (ProgressBar::new(bytes), "{bar:32} {percent:>3}%  {msg}  {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
    };
    // The templates are fixed and known to be sound; a plain bar serves as well.
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

const ROWS_BETWEEN_LOOKS: u64 = 64;
const BETWEEN_LINES: Duration = Duration::from_secs(2);
