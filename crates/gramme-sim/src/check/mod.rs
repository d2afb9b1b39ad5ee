//! The checkers, one rule per file. Each reads the evidence and nothing else (correctness.md section 10).

pub mod convergence;
pub mod coverage;
pub mod frozen;
pub mod lists;
pub mod no_loss;
pub mod phantom;
pub mod sessions;
pub mod siblings;
pub mod strict;

use crate::evidence::{Evidence, Violation};

/// Every violation of every rule.
pub fn all(evidence: &Evidence) -> Vec<Violation> {
    let checks: [fn(&Evidence) -> Vec<Violation>; 9] = [
        no_loss::check,
        coverage::check,
        sessions::check,
        strict::check,
        convergence::check,
        siblings::check,
        phantom::check,
        frozen::check,
        lists::check,
    ];
    checks.into_iter().flat_map(|check| check(evidence)).collect()
}

/// The names of the rules.
pub const RULES: [&str; 9] = [
    no_loss::RULE,
    coverage::RULE,
    sessions::RULE,
    strict::RULE,
    convergence::RULE,
    siblings::RULE,
    phantom::RULE,
    frozen::RULE,
    lists::RULE,
];
