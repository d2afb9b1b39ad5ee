//! Is the simulator itself deterministic? Each seed is run twice in one process, on fresh threads, and once in
//! a child process: the hashes of all that happened must be the same.

use crate::log::Trace;
use crate::run::Plan;
use std::process::Command;

/// The hash of one run, on a thread of its own: per-thread state such as the keys of hash maps starts anew.
/// A run that breaks a rule, such as one that touches the trip-wire, has none.
pub fn digest(seed: u64) -> Result<u64, String> {
    let run = move || crate::batch::one(&Plan::of(seed), Trace::Off);
    let verdict = std::thread::scope(|scope| scope.spawn(run).join());
    let verdict = verdict.map_err(|_| "the run's thread panicked".to_string())?;
    match verdict.violations.first() {
        None => Ok(verdict.digest),
        Some(violation) => Err(format!("{}: {}", violation.rule, violation.text)),
    }
}

/// The first line in which two logs of a seed part, if they do.
pub fn divergence(seed: u64) -> Option<(String, String)> {
    let lines = || crate::batch::one(&Plan::of(seed), Trace::Keep(Vec::new())).lines;
    let (first, second) = (lines(), lines());
    first.into_iter().zip(second).find(|(a, b)| a != b)
}

/// Checks seeds; `program` is this program, which answers `digest SEED`. One line per difference.
pub fn check(seeds: impl Iterator<Item = u64>, program: Option<&std::path::Path>) -> Vec<String> {
    let mut differences = Vec::new();
    for seed in seeds {
        let child = program.map_or(digest(seed), |program| in_child(program, seed));
        match (digest(seed), digest(seed), child) {
            (Ok(first), Ok(second), Ok(child)) if first == second && first == child => {}
            (Ok(first), Ok(second), _) if first != second => {
                let place = match divergence(seed) {
                    Some((a, b)) => format!("first at\n  {a}\n  {b}"),
                    None => "but the logs agree".to_string(),
                };
                differences.push(format!("seed {seed}: two runs in one process differ, {place}"));
            }
            (Ok(_), Ok(_), Ok(_)) => {
                differences.push(format!("seed {seed}: a child process runs it differently"));
            }
            (Err(why), _, _) | (_, Err(why), _) | (_, _, Err(why)) => {
                differences.push(format!("seed {seed}: {why}"));
            }
        }
    }
    differences
}

fn in_child(program: &std::path::Path, seed: u64) -> Result<u64, String> {
    let output = Command::new(program)
        .args(["digest", &seed.to_string()])
        .output()
        .map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_string();
    u64::from_str_radix(&text, 16).map_err(|_| format!("in a child process: {text}"))
}
