//! What clients were told, judged. A history of writes with distinct names, of what each writer had been shown,
//! and of what is left in the end, is all that the checkers know: no clock, no dot, no token of the store enters,
//! so a store that lies in its own vocabulary is found out too (correctness.md, section 10).
//!
//! Invariant: a checker accuses only where no order of events could excuse the store.
//!
//! It refuses to know how a history was made: real processes, a simulated world or a hand write the same one.
#![forbid(unsafe_code)]

mod history;
mod judge;

pub use history::{Effect, History, Key, Kind, Left, Name, Read, Write};
pub use judge::{Promise, Violation, judge};
