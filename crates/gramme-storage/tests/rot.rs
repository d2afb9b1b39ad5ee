//! Bit rot: bytes of every kind of file of a real store are flipped, zeroed, or cut off. The store then opens with
//! every row right, or with rows that are refused as damaged, or it does not open and says in one sentence what to
//! do. It never panics, never shows a wrong value, never calls a damaged row absent.
#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion

use bytes::Bytes;
use gramme_storage::fjall::{FjallEngine, FjallOptions};
use gramme_storage::{Batch, Engine, EngineError, Scan};
use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local!(static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().build().unwrap());
    RUNTIME.with(|runtime| runtime.block_on(future))
}

fn options(path: &Path) -> FjallOptions {
    FjallOptions {
        memtable_bytes: 64 << 10,
        cache_bytes: 0,
        reserve_bytes: 0,
        read_threads: 1,
        ..FjallOptions::new(path)
    }
}

fn key(n: u16) -> Vec<u8> {
    [&[0, 1][..], &n.to_be_bytes()[..]].concat()
}

fn value(n: u16) -> Vec<u8> {
    (0..400u16).map(|at| (at.wrapping_mul(n) >> 3) as u8 ^ n as u8).collect()
}

/// A store with tables of several levels, a journal, and every row written at least once and many twice.
fn grown(path: &Path) {
    let engine = FjallEngine::open(options(path)).unwrap();
    for (round, rows) in [(0, 0..ROWS), (1, 0..ROWS / 2), (2, ROWS / 3..ROWS)] {
        for from in rows.clone().step_by(40) {
            let mut batch = Batch::new();
            for n in from..(from + 40).min(rows.end) {
                // The last round is what counts: rows below a third keep the second's, which is the same.
                let written = if round == 0 { vec![0xee; 300] } else { value(n) };
                batch.set(key(n), written);
            }
            block_on(engine.commit(batch)).unwrap();
        }
    }
    engine.close();
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { directories.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let copied = to.join(file.strip_prefix(from).unwrap());
        fs::create_dir_all(copied.parent().unwrap()).unwrap();
        // The end of the journal is zeros that were set aside for it: most need not be copied.
        let mut bytes = fs::read(&file).unwrap();
        if file.extension().is_some_and(|extension| extension == "jnl") {
            let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            bytes.truncate(end + 4096);
        }
        fs::write(copied, bytes).unwrap();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// Everything was read as it was written.
    Sound,
    /// Some rows were refused.
    Damaged,
    /// The store did not open.
    Refused,
}

/// Opens the store and reads everything in both ways.
fn look(path: &Path, what: &str) -> Came {
    let engine = match FjallEngine::open(options(path)) {
        Ok(engine) => engine,
        Err(refusal) => {
            let sentence = refusal.to_string();
            assert!(sentence.contains(&path.display().to_string()), "{what}: {sentence}");
            let says_what_to_do = ["move it away", "start the newer program", "cannot use"];
            assert!(says_what_to_do.iter().any(|words| sentence.contains(words)), "{what}: {sentence}");
            return Came::Refused;
        }
    };
    let mut came = Came::Sound;
    for n in 0..ROWS {
        match block_on(engine.get(&key(n))) {
            Ok(Some(found)) => assert!(found == value(n), "{what}: row {n} has a wrong value"),
            Ok(None) => panic!("{what}: row {n} is not found"),
            Err(EngineError::Corrupt(_) | EngineError::Io(_)) => came = Came::Damaged,
            Err(other) => panic!("{what}: row {n}: {other}"),
        }
    }
    let mut after = None;
    let mut seen = 0;
    let mut whole = true;
    loop {
        let scan = Scan { prefix: Bytes::from_static(b"\0\x01"), after, rows_max: 50, bytes_max: 1 << 20 };
        let page = match block_on(engine.scan(scan)) {
            Ok(page) => page,
            Err(EngineError::Corrupt(_) | EngineError::Io(_)) => {
                whole = false;
                break;
            }
            Err(other) => panic!("{what}: {other}"),
        };
        whole &= !page.damaged;
        seen += page.rows.len();
        for (found, shown) in &page.rows {
            let n = u16::from_be_bytes([found[2], found[3]]);
            assert!(*shown == value(n), "{what}: a page shows a wrong value for row {n}");
        }
        after = page.rows.last().map(|row| row.0.clone());
        if !page.more {
            break;
        }
        assert!(after.is_some(), "{what}: an empty page leaves nowhere to go on");
    }
    assert!(!whole || seen == usize::from(ROWS), "{what}: {seen} rows, and nothing said of the others");
    if whole { came } else { Came::Damaged }
}

#[test]
fn rot_in_any_file_is_noticed_and_never_shown() {
    rot(0x2545_f491_4f6c_dd1d, 1);
}

/// `cargo test -p gramme-storage --test rot -- --ignored`: the same with other dice, for minutes.
#[test]
#[ignore = "takes minutes"]
fn rot_in_many_places_is_noticed_and_never_shown() {
    let drawn = std::process::id();
    println!("dice {drawn}");
    rot(u64::from(drawn).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, 12);
}

fn rot(mut dice: u64, times: usize) {
    let place = tempfile::tempdir().unwrap();
    let sound = place.path().join("sound");
    grown(&sound);
    let mut outcomes: BTreeMap<(String, Came), usize> = BTreeMap::new();
    let mut case = 0;
    let (tables, others): (Vec<PathBuf>, Vec<PathBuf>) =
        files(&sound).into_iter().partition(|file| kind_of(file) == "table");
    for file in others.into_iter().chain(tables.into_iter().take(TABLES)) {
        let name = file.strip_prefix(&sound).unwrap().to_owned();
        let kind = kind_of(&name);
        for hurt in [Hurt::Flip, Hurt::Zero, Hurt::Cut].into_iter().cycle().take(3 * times) {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            case += 1;
            let copied = place.path().join(format!("case-{case}"));
            copy(&sound, &copied);
            let what = format!("{hurt:?} {} ({dice:x})", name.display());
            if !hurt.apply(&copied.join(&name), dice) {
                continue;
            }
            *outcomes.entry((kind.clone(), look(&copied, &what))).or_default() += 1;
            fs::remove_dir_all(copied).unwrap();
        }
    }
    println!("{outcomes:#?}");
    let of = |came: Came| outcomes.iter().filter(|((_, c), _)| *c == came).map(|(_, n)| n).sum::<usize>();
    assert!(of(Came::Damaged) > 0 && of(Came::Refused) > 0, "{outcomes:?}");
    assert!(outcomes.keys().any(|(kind, came)| kind.contains("table") && *came == Came::Damaged));
}

/// Files of one kind count together.
fn kind_of(name: &Path) -> String {
    let text = name.display().to_string();
    let is_table = text.contains("/tables/");
    if is_table { "table".to_owned() } else { text }
}

#[derive(Debug, Clone, Copy)]
enum Hurt {
    Flip,
    Zero,
    Cut,
}

impl Hurt {
    /// Whether anything has changed.
    fn apply(self, path: &Path, dice: u64) -> bool {
        let mut bytes = fs::read(path).unwrap();
        let before = bytes.clone();
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        if end == 0 {
            return false;
        }
        let at = (dice as usize >> 8) % end;
        match self {
            Hurt::Flip => bytes[at] ^= 1 << (dice % 8),
            Hurt::Zero => bytes[at..(at + 512).min(end)].fill(0),
            Hurt::Cut => bytes.truncate(at),
        }
        fs::write(path, &bytes).unwrap();
        bytes != before
    }
}

const ROWS: u16 = 400;
/// Tables are much alike.
const TABLES: usize = 4;
