//! A failure that is kept: the plan itself, not its seed, since a seed means something only at its commit. It is
//! replayed under many orders of polls, because the order that failed once may be another by now.

use crate::evidence::Violation;
use crate::log::Trace;
use crate::run::Plan;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One file of `regressions/`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Regression {
    /// What went wrong, in one sentence.
    pub note: String,
    /// The rule that it broke.
    pub expect: String,
    /// The commit at which it did.
    pub commit: String,
    /// What to run.
    pub plan: Plan,
}

impl Regression {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Regression, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Writes it under a name made of its rule and seed; says where.
    pub fn write(&self, directory: &Path) -> Result<PathBuf, String> {
        let name = format!("{}-{:x}.json", self.expect.replace(' ', "-"), self.plan.seed);
        let path = directory.join(name);
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        std::fs::create_dir_all(directory)
            .and_then(|()| std::fs::write(&path, text + "\n"))
            .map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path)
    }

    /// Runs it under so many orders of polls; the first violation, if there is one, with the order's number.
    pub fn replay(&self, orders: u64) -> Option<(u64, Violation)> {
        (0..orders).find_map(|order| {
            let plan = Plan { schedule: self.plan.schedule.wrapping_add(order), ..self.plan.clone() };
            let verdict = crate::batch::one(&plan, Trace::Off);
            verdict.violations.into_iter().next().map(|violation| (order, violation))
        })
    }
}

/// All files of a directory, in order of name.
pub fn all(directory: &Path) -> Result<Vec<(PathBuf, Regression)>, String> {
    let entries =
        std::fs::read_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| Regression::read(&path).map(|regression| (path, regression))).collect()
}

/// Where this crate keeps them.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")
}
