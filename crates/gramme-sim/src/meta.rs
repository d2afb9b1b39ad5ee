//! Is the simulator itself deterministic? Each seed is run twice in one process, on fresh threads, and once in
//! a child process: the hashes of all that happened must be the same.

use crate::log::Trace;
use crate::run::Plan;
use std::process::Command;

/// The hash of one run, on a thread of its own: per-thread state such as the keys of hash maps starts anew.
pub fn digest(seed: u64) -> u64 {
    let run = move || crate::batch::one(&Plan::of(seed), Trace::Off).digest;
    std::thread::scope(|scope| scope.spawn(run).join()).unwrap_or_default()
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
        let (first, second) = (digest(seed), digest(seed));
        if first != second {
            let place = match divergence(seed) {
                Some((a, b)) => format!("first at\n  {a}\n  {b}"),
                None => "but the logs agree".to_string(),
            };
            differences.push(format!("seed {seed}: two runs in one process differ, {place}"));
        }
        if let Some(program) = program {
            match in_child(program, seed) {
                Ok(child) if child == first => {}
                Ok(_) => differences.push(format!("seed {seed}: a child process runs it differently")),
                Err(why) => differences.push(format!("seed {seed}: the child process failed: {why}")),
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
    u64::from_str_radix(&text, 16).map_err(|_| format!("it said {text:?}"))
}
