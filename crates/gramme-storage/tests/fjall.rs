//! The disk engine on a real directory: it conforms, keeps what it promised, and refuses what it cannot
//! trust.

#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion

use bytes::Bytes;
use gramme_storage::fjall::{FjallEngine, FjallOptions, OpenError};
use gramme_storage::{Batch, Engine, EngineError, conformance};
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn options(path: &Path) -> FjallOptions {
    // The tests' machine may have little space; only one test is about that.
    FjallOptions { reserve_bytes: 0, ..FjallOptions::new(path) }
}

fn open(path: &Path) -> FjallEngine {
    FjallEngine::open(options(path)).unwrap()
}

fn set(key: &[u8], value: impl Into<Bytes>) -> Batch {
    let mut batch = Batch::new();
    batch.set(key.to_vec(), value);
    batch
}

/// Each batch in a sync of its own, so that the journal holds them one by one.
fn write_batches(engine: &FjallEngine, numbers: std::ops::Range<u8>) {
    for number in numbers {
        block_on(engine.commit(set(&[0, 1, number], vec![number; 600]))).unwrap();
    }
}

fn journal(path: &Path) -> PathBuf {
    path.join("fjall/0.jnl")
}

/// Where the last byte that is not zero lies in the journal.
fn journal_end(path: &Path) -> usize {
    fs::read(journal(path)).unwrap().iter().rposition(|byte| *byte != 0).unwrap()
}

/// Leaves only a little of the zeros after the groups, which saves most of the test's time.
fn change_journal(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(journal(path)).unwrap();
    bytes.truncate(journal_end(path) + 100_000);
    change(&mut bytes);
    fs::write(journal(path), bytes).unwrap();
}

/// As if the process had been killed: the clean mark was never written.
fn forget_clean_close(path: &Path) {
    fs::remove_file(path.join("CLEAN")).unwrap();
}

fn damage_of(path: &Path) -> String {
    match FjallEngine::open(options(path)) {
        Err(OpenError::Corrupt { cause, .. }) => cause,
        Err(other) => panic!("refused for another reason: {other}"),
        Ok(_) => panic!("a damaged store opened"),
    }
}

#[test]
fn the_fjall_engine_conforms() {
    for seed in 1..=3 {
        let place = tempfile::tempdir().unwrap();
        let stores = std::cell::Cell::new(0);
        let fresh = async || {
            stores.set(stores.get() + 1);
            open(&place.path().join(stores.get().to_string()))
        };
        block_on(conformance::check_all(fresh, seed));
    }
}

#[test]
fn the_fjall_engine_conforms_when_every_few_rows_become_a_table() {
    let place = tempfile::tempdir().unwrap();
    let small = FjallOptions { memtable_bytes: 4 << 10, cache_bytes: 64 << 10, ..options(place.path()) };
    let engine = FjallEngine::open(small).unwrap();
    block_on(conformance::check_random_walk(&engine, 99, 1500));
}

#[test]
fn a_store_closed_and_opened_again_has_every_row() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    write_batches(&engine, 0..50);
    block_on(engine.commit(set(b"\0\x02gone", "v"))).unwrap();
    block_on(engine.drop_partition(2)).unwrap();
    drop(engine);

    let engine = open(place.path());
    assert!(engine.journal_check().was_clean);
    for number in 0..50u8 {
        assert_eq!(block_on(engine.get(&[0, 1, number])), Ok(Some(Bytes::from(vec![number; 600]))));
    }
    assert_eq!(block_on(engine.get(b"\0\x02gone")), Ok(None));
}

#[test]
fn a_closed_store_refuses_work_and_its_directory_is_free() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let other_handle = engine.clone();
    engine.close();
    engine.close();
    assert_eq!(block_on(other_handle.get(b"\0\x01k")), Err(EngineError::Closed));
    assert_eq!(block_on(other_handle.commit(set(b"\0\x01k", "v"))), Err(EngineError::Closed));
    open(place.path());
}

#[test]
fn a_second_open_of_a_store_is_refused_in_one_sentence() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    let refusal = FjallEngine::open(options(place.path())).err().expect("it is in use");
    assert!(matches!(refusal, OpenError::InUse { .. }));
    let text = refusal.to_string();
    assert!(text.contains("is open in another process") && text.contains("directory of its own"), "{text}");
    write_batches(&engine, 0..1);
}

#[test]
fn a_garbled_format_file_is_refused_and_nothing_is_changed() {
    let place = tempfile::tempdir().unwrap();
    drop(open(place.path()));
    let format = place.path().join("FORMAT");
    let mut bytes = fs::read(&format).unwrap();
    bytes[9] ^= 1;
    fs::write(&format, &bytes).unwrap();
    let refusal = FjallEngine::open(options(place.path())).err().expect("it is garbled");
    assert!(matches!(refusal, OpenError::Garbled { cause: "fails its checksum", .. }), "{refusal}");
    assert_eq!(fs::read(&format).unwrap(), bytes);
}

#[test]
fn a_file_in_place_of_the_directory_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("store");
    fs::write(&path, b"not a directory").unwrap();
    let refusal = FjallEngine::open(options(&path)).err().expect("it is a file");
    assert!(matches!(refusal, OpenError::Io { .. }), "{refusal}");
}

#[test]
fn a_disk_without_room_refuses_writes_while_reads_and_removals_go_on() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    block_on(engine.commit(set(b"\0\x01k", "v"))).unwrap();
    drop(engine);

    let full = FjallOptions { reserve_bytes: u64::MAX, ..options(place.path()) };
    let engine = FjallEngine::open(full).unwrap();
    assert_eq!(block_on(engine.commit(set(b"\0\x01other", "v"))), Err(EngineError::Full));
    assert_eq!(block_on(engine.get(b"\0\x01other")), Ok(None));
    assert_eq!(block_on(engine.get(b"\0\x01k")), Ok(Some(Bytes::from_static(b"v"))));
    let mut removal = Batch::new();
    removal.remove(&b"\0\x01k"[..]);
    assert_eq!(block_on(engine.commit(removal)), Ok(()));
    assert_eq!(block_on(engine.get(b"\0\x01k")), Ok(None));
}

#[test]
fn a_torn_last_group_after_a_crash_is_cut_and_all_before_it_stays() {
    // Every way in which the pages of the last group may have reached the disk or not.
    let tears: [fn(&mut [u8]); 4] = [
        |group| group.fill(0),
        |group| group[300..].fill(0),
        |group| group[..300].fill(0),
        |group| group[200..400].fill(0),
    ];
    for (case, tear) in tears.into_iter().enumerate() {
        let place = tempfile::tempdir().unwrap();
        let engine = open(place.path());
        write_batches(&engine, 0..5);
        engine.close();
        let synced = journal_end(place.path()) + 1;
        let engine = open(place.path());
        write_batches(&engine, 5..6);
        engine.close();
        forget_clean_close(place.path());
        change_journal(place.path(), |bytes| tear(&mut bytes[synced..]));

        let engine = open(place.path());
        assert!(!engine.journal_check().was_clean);
        assert_eq!(engine.journal_check().cut_bytes > 0, case != 0, "case {case}");
        for number in 0..5u8 {
            let read = block_on(engine.get(&[0, 1, number]));
            assert_eq!(read, Ok(Some(Bytes::from(vec![number; 600]))), "case {case}");
        }
        assert_eq!(block_on(engine.get(&[0, 1, 5])), Ok(None), "case {case}: whole or absent");
        write_batches(&engine, 6..8);
        engine.close();
        assert_eq!(block_on(open(place.path()).get(&[0, 1, 7])), Ok(Some(Bytes::from(vec![7; 600]))));
    }
}

#[test]
fn a_journal_cut_short_by_a_crash_opens_with_a_prefix() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    write_batches(&engine, 0..6);
    engine.close();
    forget_clean_close(place.path());
    let end = journal_end(place.path());
    change_journal(place.path(), |bytes| bytes.truncate(end - 100));
    let engine = open(place.path());
    assert_eq!(block_on(engine.get(&[0, 1, 4])), Ok(Some(Bytes::from(vec![4; 600]))));
    assert_eq!(block_on(engine.get(&[0, 1, 5])), Ok(None));
}

#[test]
fn damage_before_a_synced_group_is_refused_wherever_it_lies() {
    // The steps hit the start, the sequence number, the head, the key, the value or the end of some group.
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    write_batches(&engine, 0..4);
    engine.close();
    forget_clean_close(place.path());
    change_journal(place.path(), |_| {});
    let sound = fs::read(journal(place.path())).unwrap();
    let end = journal_end(place.path());
    let group = (end + 1) / 4;
    for at in (0..3 * group).step_by(7) {
        change_journal(place.path(), |bytes| bytes[at] ^= 0x80);
        let cause = damage_of(place.path());
        assert!(cause.contains("0.jnl"), "byte {at}: {cause}");
        fs::write(journal(place.path()), &sound).unwrap();
    }
    let engine = open(place.path());
    assert_eq!(block_on(engine.get(&[0, 1, 3])), Ok(Some(Bytes::from(vec![3; 600]))));
}

#[test]
fn damage_in_a_journal_is_refused_if_a_later_journal_holds_anything() {
    for (is_damaged, is_later_empty) in [(false, false), (true, false), (true, true)] {
        let place = tempfile::tempdir().unwrap();
        let engine = open(place.path());
        write_batches(&engine, 0..4);
        engine.close();
        forget_clean_close(place.path());
        // As if the database had begun its second journal after the third batch.
        let bytes = fs::read(journal(place.path())).unwrap();
        let third_end = (journal_end(place.path()) + 1) / 4 * 3;
        let (mut first, second) = (bytes[..third_end].to_vec(), bytes[third_end..third_end + 5000].to_vec());
        if is_damaged {
            first[third_end - 100] ^= 1;
        }
        fs::write(journal(place.path()), first).unwrap();
        let later = if is_later_empty { vec![0; 5000] } else { second };
        fs::write(place.path().join("fjall/1.jnl"), later).unwrap();

        if is_damaged && !is_later_empty {
            let cause = damage_of(place.path());
            assert!(cause.contains("with a journal after it"), "{cause}");
            continue;
        }
        let engine = open(place.path());
        assert_eq!(block_on(engine.get(&[0, 1, 1])), Ok(Some(Bytes::from(vec![1; 600]))));
        assert_eq!(block_on(engine.get(&[0, 1, 2])).unwrap().is_some(), !is_damaged);
        assert_eq!(block_on(engine.get(&[0, 1, 3])).unwrap().is_some(), !is_later_empty);
    }
}

#[test]
fn after_a_clean_close_damage_to_the_very_last_group_is_refused() {
    for at_from_end in [0, 3, 10, 100, 500] {
        let place = tempfile::tempdir().unwrap();
        let engine = open(place.path());
        write_batches(&engine, 0..3);
        engine.close();
        let end = journal_end(place.path());
        change_journal(place.path(), |bytes| bytes[end - at_from_end] ^= 1);
        let cause = damage_of(place.path());
        assert!(cause.contains("should be whole"), "{cause}");
    }
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    write_batches(&engine, 0..3);
    engine.close();
    let end = journal_end(place.path());
    change_journal(place.path(), |bytes| bytes[end / 2..].fill(0));
    damage_of(place.path());
}

#[test]
fn a_row_damaged_in_its_table_is_an_error_and_never_not_found() {
    let place = tempfile::tempdir().unwrap();
    let small = FjallOptions { memtable_bytes: 64 << 10, cache_bytes: 0, ..options(place.path()) };
    let engine = FjallEngine::open(small.clone()).unwrap();
    // Enough rows that tables are written out while the store is open.
    for round in 0..20u8 {
        write_batches(&engine, 0..255);
        let tables = place.path().join("fjall/keyspaces/1/tables");
        if round > 3 && fs::read_dir(&tables).is_ok_and(|entries| entries.count() > 0) {
            break;
        }
    }
    engine.close();
    let mut damaged = 0;
    for entry in fs::read_dir(place.path().join("fjall/keyspaces/1/tables")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        // Values are runs of one byte; a change inside such a run is under the checksum of a data block.
        for at in (1000..bytes.len().min(20_000)).step_by(1000) {
            bytes[at] ^= 0x55;
        }
        fs::write(&path, bytes).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0, "no table was written");
    let engine = match FjallEngine::open(small) {
        Ok(engine) => engine,
        Err(OpenError::Corrupt { .. }) => return,
        Err(other) => panic!("{other}"),
    };
    let mut errors = 0;
    for number in 0..255u8 {
        match block_on(engine.get(&[0, 1, number])) {
            Ok(Some(value)) => assert_eq!(value, vec![number; 600]),
            Ok(None) => panic!("row {number} is damaged and was reported as not found"),
            Err(EngineError::Corrupt(_)) => errors += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(errors > 0, "the damage was in no row that is read");
}

#[test]
fn figures_count_batches_and_syncs() {
    let place = tempfile::tempdir().unwrap();
    let engine = open(place.path());
    write_batches(&engine, 0..10);
    let stats = engine.stats();
    assert_eq!((stats.batches, stats.syncs), (10, 10));
    assert!(stats.sync_nanos >= stats.sync_nanos_max && stats.sync_nanos_max > 0);
    assert_eq!(engine.take_sync_nanos().len(), 10);
    assert_eq!(engine.take_sync_nanos().len(), 0);
}
