//! The committer against a log that is a list: order, groups, bounds and faults, without threads or disk.

#![allow(clippy::unwrap_used)] // a test's unwrap is its assertion

use super::*;
use bytes::Bytes;

#[derive(Default)]
struct List {
    appended: Vec<Vec<String>>,
    synced: usize,
    removed: Vec<u16>,
    fail_append_at: Option<usize>,
    fail_sync_at: Option<usize>,
    is_full: bool,
    panics: bool,
}

impl Log for List {
    fn has_room(&mut self, _: usize) -> bool {
        !self.is_full
    }

    fn append(&mut self, batches: &[&Batch]) -> Result<(), Fault> {
        assert!(!self.panics, "the test's panic");
        if self.fail_append_at == Some(self.appended.len()) {
            return Err(Fault("append: no".to_owned()));
        }
        let keys = batches
            .iter()
            .flat_map(|batch| &batch.changes)
            .map(|change| String::from_utf8_lossy(&change.key()[2..]).into_owned());
        self.appended.push(keys.collect());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Fault> {
        if self.fail_sync_at == Some(self.synced) {
            return Err(Fault("sync: no".to_owned()));
        }
        self.synced += 1;
        Ok(())
    }

    fn remove_some(&mut self, removal: &mut Removal, _: usize) -> Result<bool, Fault> {
        self.removed.push(removal.partition);
        self.appended.push(vec![format!("-{}", removal.partition)]);
        let steps = self.removed.iter().filter(|partition| **partition == removal.partition).count();
        Ok(steps < 3)
    }

    fn stored_bytes(&mut self) -> u64 {
        0
    }
}

fn committer() -> Committer {
    Committer::new(Bounds { waiting_bytes_max: 1000, waiting_batches_max: 10, group_bytes_max: 300 })
}

fn set(partition: u16, name: &str, bytes: usize) -> Batch {
    let mut batch = Batch::new();
    batch.set([&partition.to_be_bytes()[..], name.as_bytes()].concat(), vec![0; bytes]);
    batch
}

fn answer(completion: Completion) -> Result<(), EngineError> {
    completion.blocking_recv().expect("the committer answered")
}

#[test]
fn all_that_waits_shares_one_sync_in_the_order_of_the_calls() {
    let (committer, mut log) = (committer(), List::default());
    let done: Vec<_> = ["a", "b", "c"].map(|name| committer.commit(set(1, name, 0), None).unwrap()).into();
    committer.close();
    committer.run(&mut log);
    assert_eq!(log.appended, [["a", "b", "c"]]);
    assert_eq!(log.synced, 1);
    assert_eq!(committer.counts.batches.load(Relaxed), 3);
    assert_eq!(committer.counts.take_sync_nanos().len(), 1);
    assert!(committer.counts.take_sync_nanos().is_empty(), "taken once");
    for done in done {
        assert_eq!(answer(done), Ok(()));
    }
}

#[test]
fn a_group_ends_at_its_bytes_and_a_larger_batch_still_goes() {
    let (committer, mut log) = (committer(), List::default());
    for (name, bytes) in [("a", 100), ("b", 100), ("c", 500), ("d", 0)] {
        committer.commit(set(1, name, bytes), None).unwrap();
    }
    committer.close();
    committer.run(&mut log);
    assert_eq!(log.appended, [vec!["a"], vec!["b"], vec!["c"], vec!["d"]]);
    assert_eq!(log.synced, 4);
}

#[test]
fn past_its_bounds_the_queue_turns_a_batch_away_whole() {
    let (committer, mut log) = (committer(), List::default());
    let huge = committer.commit(set(1, "huge", 5000), None).unwrap();
    assert_eq!(committer.commit(set(1, "more", 0), None).unwrap_err(), EngineError::Busy);
    committer.close();
    committer.run(&mut log);
    assert_eq!(answer(huge), Ok(()));
    assert_eq!(log.appended, [["huge"]]);

    let committer = self::committer();
    let waiting: Vec<_> = (0..10).map(|_| committer.commit(set(1, "k", 0), None).unwrap()).collect();
    assert_eq!(committer.commit(set(1, "k", 0), None).unwrap_err(), EngineError::Busy);
    drop(waiting);
}

#[test]
fn a_row_no_engine_can_hold_is_refused_before_it_waits() {
    let committer = committer();
    for key in [vec![], vec![0], vec![0; 65_536]] {
        let mut batch = Batch::new();
        batch.remove(key);
        assert!(matches!(committer.commit(batch, None), Err(EngineError::Refused(_))));
    }
}

#[test]
fn after_a_failed_sync_nothing_is_written_again() {
    let (committer, mut log) = (committer(), List { fail_sync_at: Some(1), ..List::default() });
    let first = committer.commit(set(1, "a", 200), None).unwrap();
    let second = committer.commit(set(1, "b", 200), None).unwrap();
    let third = committer.commit(set(1, "c", 200), None).unwrap();
    let removal = committer.remove_partition(9).unwrap();
    committer.run(&mut log);
    let poisoned = Err(EngineError::Poisoned("sync: no".to_owned()));
    assert_eq!(answer(first), Ok(()));
    assert_eq!(answer(second), poisoned);
    assert_eq!(answer(third), poisoned);
    assert_eq!(answer(removal), poisoned);
    assert_eq!(log.appended, [["a"], ["b"]]);
    assert_eq!(
        committer.commit(set(1, "d", 0), None).unwrap_err(),
        EngineError::Poisoned("sync: no".to_owned())
    );
    assert_eq!(committer.end(), EngineError::Poisoned("sync: no".to_owned()));
}

#[test]
fn after_a_failed_append_nothing_is_written_again() {
    // The removal's three steps come first, since the batch touches its partition.
    let (committer, mut log) = (committer(), List { fail_append_at: Some(3), ..List::default() });
    let removal = committer.remove_partition(9).unwrap();
    let failed = committer.commit(set(9, "a", 200), None).unwrap();
    let waiting = committer.commit(set(1, "b", 200), None).unwrap();
    committer.run(&mut log);
    assert_eq!(log.removed, [9, 9, 9]);
    assert_eq!(answer(removal), Ok(()));
    assert_eq!(answer(failed), Err(EngineError::Poisoned("append: no".to_owned())));
    assert_eq!(answer(waiting), Err(EngineError::Poisoned("append: no".to_owned())));
    assert_eq!(log.appended, [["-9"], ["-9"], ["-9"]]);
}

#[test]
fn a_panic_of_the_log_fails_all_that_waits() {
    let (committer, mut log) = (committer(), List { panics: true, ..List::default() });
    let caught = committer.commit(set(1, "a", 200), None).unwrap();
    let waiting = committer.commit(set(1, "b", 200), None).unwrap();
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| committer.run(&mut log)));
    assert!(panic.is_err());
    assert!(caught.blocking_recv().is_err(), "dropped unanswered, so its future asks for the end");
    assert!(matches!(answer(waiting), Err(EngineError::Poisoned(_))));
    assert!(matches!(committer.end(), EngineError::Poisoned(_)));
}

#[test]
fn a_full_disk_refuses_what_sets_rows_and_takes_what_removes_them() {
    let (committer, mut log) = (committer(), List { is_full: true, ..List::default() });
    let set = committer.commit(set(1, "a", 0), None).unwrap();
    let mut removal = Batch::new();
    removal.remove(Bytes::from_static(b"\0\x01b"));
    let removal = committer.commit(removal, None).unwrap();
    committer.close();
    committer.run(&mut log);
    assert_eq!(answer(set), Err(EngineError::Full));
    assert_eq!(answer(removal), Ok(()));
    assert_eq!(log.appended, [["b"]]);
}

#[test]
fn other_partitions_do_not_wait_for_a_removal_and_its_own_partition_does() {
    let (committer, mut log) = (committer(), List::default());
    committer.commit(set(9, "before", 0), None).unwrap();
    let removal = committer.remove_partition(9).unwrap();
    committer.commit(set(1, "other", 200), None).unwrap();
    let after = committer.commit(set(9, "after", 200), None).unwrap();
    committer.close();
    committer.run(&mut log);
    assert_eq!(log.appended, [["before"], ["-9"], ["other"], ["-9"], ["-9"], ["after"]]);
    assert_eq!(answer(removal), Ok(()));
    assert_eq!(answer(after), Ok(()));
}

#[test]
fn a_closed_committer_finishes_what_waits_and_takes_nothing_more() {
    let (committer, mut log) = (committer(), List::default());
    let waiting = committer.commit(set(1, "a", 0), None).unwrap();
    let removal = committer.remove_partition(9).unwrap();
    committer.close();
    assert_eq!(committer.commit(set(1, "b", 0), None).unwrap_err(), EngineError::Closed);
    committer.run(&mut log);
    assert_eq!(answer(waiting), Ok(()));
    assert_eq!(answer(removal), Ok(()));
}
