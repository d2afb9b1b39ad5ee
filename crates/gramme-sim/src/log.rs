//! What happened in a run, in order: hashed always, written out on demand, and counted.
//!
//! The hash covers every poll, delivery, sync, fault and client call with its simulated time. Two runs of
//! one plan that differ anywhere differ here, and the first line where their traces part names the leak.

use std::collections::BTreeMap;
use xxhash_rust::xxh3::Xxh3;

/// The event log of one run.
pub struct Log {
    hash: Xxh3,
    trace: Trace,
    counts: BTreeMap<&'static str, u64>,
    lines: u64,
}

/// Where the written-out log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trace {
    /// Nowhere.
    #[default]
    Off,
    /// To standard output, as it happens.
    Print,
    /// Into memory.
    Keep(Vec<String>),
}

impl Log {
    /// An empty log.
    pub fn new(trace: Trace) -> Log {
        Log { hash: Xxh3::new(), trace, counts: BTreeMap::new(), lines: 0 }
    }

    /// Something happened at `now` (nanoseconds): `kind` and the numbers identify it in the hash, `text`
    /// is asked for only if somebody reads along.
    pub fn event(&mut self, now: u64, kind: &'static str, a: u64, b: u64, text: impl FnOnce() -> String) {
        self.lines += 1;
        self.hash.update(kind.as_bytes());
        self.hash.update(&now.to_le_bytes());
        self.hash.update(&a.to_le_bytes());
        self.hash.update(&b.to_le_bytes());
        if self.trace != Trace::Off {
            let line = format!("{:>12.6} {kind:<8} {}", now as f64 / 1e9, text());
            match &mut self.trace {
                Trace::Off => {}
                Trace::Print => println!("{line}"),
                Trace::Keep(lines) => lines.push(line),
            }
        }
    }

    /// One more of something that a valid batch of runs must have seen.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// So many more of it.
    pub fn count_many(&mut self, what: &'static str, many: u64) {
        *self.counts.entry(what).or_default() += many;
    }

    /// How often each thing was seen.
    pub fn counts(&self) -> &BTreeMap<&'static str, u64> {
        &self.counts
    }

    /// The hash of everything that happened so far.
    pub fn digest(&self) -> u64 {
        self.hash.digest()
    }

    /// The lines kept in memory, if they were asked for.
    pub fn kept(&self) -> &[String] {
        match &self.trace {
            Trace::Keep(lines) => lines,
            Trace::Off | Trace::Print => &[],
        }
    }
}
