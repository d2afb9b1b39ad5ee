//! A data directory of this machine, measured: how long a small write takes until it is on the disk, how much room
//! there is, and how many files a node that is started from here may open.

use super::{Finding, Verdict};
use crate::failure::Failure;
use gramme_server::figures::bytes as size;
use rustix::process::{Resource, getrlimit};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Everything that can be said of a directory. The only failure is that it cannot be looked at.
pub(super) fn examine(dir: &Path) -> Result<Vec<Finding>, Failure> {
    if !dir.is_dir() {
        return Err(Failure::usage(format!(
            "{} is no directory: name a node's storage.data_dir",
            dir.display()
        )));
    }
    let in_memory = rustix::fs::statfs(dir).is_ok_and(|system| system.f_type == TMPFS);
    let syncs = measure(dir).map_err(|e| Failure::io("syncs cannot be measured in", dir, &e))?;
    let space = rustix::fs::statvfs(dir).map_err(|e| Failure::io("cannot look at", dir, &e.into()))?;
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    let findings = [
        ("sync here", judge_syncs(&syncs, in_memory)),
        ("space here", judge_space("this disk", bytes(space.f_bavail), bytes(space.f_blocks), RESERVE_BYTES)),
        ("files here", judge_files("a node that is started from here", getrlimit(Resource::Nofile).current)),
    ];
    Ok(findings.map(|(check, (verdict, says))| Finding { check, verdict, says }).into())
}

/// A file that is gone when this is.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn create(dir: &Path) -> std::io::Result<Scratch> {
        let path = dir.join(format!("doctor-{}.tmp", std::process::id()));
        // A link that somebody else put there is not followed: the file must be new.
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Scratch { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(e) = std::fs::remove_file(&self.path) {
            eprintln!("{} could not be removed ({e}): remove it by hand", self.path.display());
        }
    }
}

/// How long each of a few small appends took to be on the disk, the quickest first. Each makes the file longer, as a
/// journal does.
fn measure(dir: &Path) -> std::io::Result<Vec<Duration>> {
    let mut scratch = Scratch::create(dir)?;
    let start = Instant::now();
    let mut took = Vec::with_capacity(WRITES_MAX);
    while took.len() < WRITES_MAX && (took.is_empty() || start.elapsed() < PATIENCE) {
        let begun = Instant::now();
        scratch.file.write_all(&[0x67; WRITE_BYTES])?;
        scratch.file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took)
}

fn judge_syncs(took: &[Duration], in_memory: bool) -> (Verdict, String) {
    let (Some(&median), Some(&longest)) = (took.get(took.len() / 2), took.last()) else {
        return (Verdict::Bad, "not one sync ended: look at the disk".to_string());
    };
    let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let figures = format!(
        "{} syncs of {} KiB: half within {}, the longest {}",
        took.len(),
        WRITE_BYTES >> 10,
        ms(median),
        ms(longest)
    );
    if in_memory {
        let says =
            format!("{figures}; this is memory: put the data directory on a disk, or a power cut takes it");
        (Verdict::Bad, says)
    } else if median > SYNC_BAD {
        (
            Verdict::Bad,
            format!("{figures}; every write waits for that: put the data directory on an SSD of its own"),
        )
    } else if median > SYNC_WARN || longest > SYNC_BAD {
        (Verdict::Warn, format!("{figures}; every write waits for that: look at what else uses this disk"))
    } else {
        (Verdict::Ok, figures)
    }
}

/// Whether a disk has room to go on, of which a node keeps `reserve_bytes` free.
pub(super) fn judge_space(whose: &str, free_bytes: u64, bytes: u64, reserve_bytes: u64) -> (Verdict, String) {
    let free = format!("{whose} has {} of {} free", size(free_bytes), size(bytes));
    if free_bytes <= reserve_bytes {
        (Verdict::Bad, format!("{free}, no more than its reserve: make room, for no write is taken there"))
    } else if free_bytes < 4 * reserve_bytes || free_bytes < bytes / 10 {
        (
            Verdict::Warn,
            format!("{free}: make room, for beyond its reserve of {} no write is taken", size(reserve_bytes)),
        )
    } else {
        (Verdict::Ok, free)
    }
}

/// Whether so many open files are enough: each client and each table of the store takes one.
pub(super) fn judge_files(whose: &str, files_max: Option<u64>) -> (Verdict, String) {
    let Some(max) = files_max else { return (Verdict::Ok, format!("{whose} may open any number of files")) };
    let may = format!("{whose} may open {max} files");
    let what = "raise the limit to 65536 (`ulimit -n`, or LimitNOFILE= of its unit)";
    match max {
        0..FILES_BAD => (Verdict::Bad, format!("{may}, too few for its store: {what}")),
        FILES_BAD..FILES_WARN => (Verdict::Warn, format!("{may}, and every client takes one: {what}")),
        _ => (Verdict::Ok, may),
    }
}

const WRITES_MAX: usize = 64;
const WRITE_BYTES: usize = 4 << 10;
/// No new write is begun after this.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a disk that turns needs, and a good deal more than a solid one does.
const SYNC_WARN: Duration = Duration::from_millis(15);
const SYNC_BAD: Duration = Duration::from_millis(100);
/// What `storage.reserve_mb` is unless it is set.
const RESERVE_BYTES: u64 = 256 << 20;
const FILES_BAD: u64 = 256;
const FILES_WARN: u64 = 4096;
/// The type by which Linux knows a file system in memory.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_measured_in_a_file_that_is_gone_afterwards() {
        let place = tempfile::tempdir().unwrap_or_else(|e| panic!("{e}"));
        let took = measure(place.path()).unwrap_or_else(|e| panic!("{e}"));
        assert!((1..=WRITES_MAX).contains(&took.len()) && took.is_sorted());
        assert_eq!(std::fs::read_dir(place.path()).map(Iterator::count).ok(), Some(0));
    }

    #[test]
    fn a_directory_that_is_none_is_refused() {
        let refused = examine(Path::new("/nowhere")).err().map(|failure| failure.sentence().to_string());
        assert_eq!(refused.as_deref(), Some("/nowhere is no directory: name a node's storage.data_dir"));
    }

    #[test]
    fn slow_syncs_are_told_by_half_of_them_and_by_the_longest() {
        let all = |ms: &[u64]| ms.iter().map(|&ms| Duration::from_millis(ms)).collect::<Vec<_>>();
        for (took, in_memory, verdict) in [
            (all(&[1, 1, 2]), false, Verdict::Ok),
            (all(&[1, 1, 2]), true, Verdict::Bad),
            (all(&[1, 20, 30]), false, Verdict::Warn),
            (all(&[1, 1, 400]), false, Verdict::Warn),
            (all(&[1, 200, 400]), false, Verdict::Bad),
            (Vec::new(), false, Verdict::Bad),
        ] {
            assert_eq!(judge_syncs(&took, in_memory).0, verdict, "{took:?}");
        }
        let (_, says) = judge_syncs(&all(&[1, 1, 2]), false);
        assert_eq!(says, "3 syncs of 4 KiB: half within 1.0 ms, the longest 2.0 ms");
    }

    #[test]
    fn room_and_files_are_bad_before_they_are_gone() {
        let gib = 1 << 30;
        let space = |free| judge_space("n1", free, 100 * gib, 256 << 20);
        assert_eq!(space(50 * gib), (Verdict::Ok, "n1 has 50 GiB of 100 GiB free".to_string()));
        assert_eq!([space(5 * gib).0, space(200 << 20).0], [Verdict::Warn, Verdict::Bad]);
        let files = |max| judge_files("n1", max).0;
        assert_eq!(
            [files(Some(100)), files(Some(1024)), files(Some(65_536)), files(None)],
            [Verdict::Bad, Verdict::Warn, Verdict::Ok, Verdict::Ok]
        );
    }
}
