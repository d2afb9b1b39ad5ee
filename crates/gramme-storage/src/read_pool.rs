//! Reads that may touch the disk, off the shard's thread: a few threads and one bounded queue.
//!
//! A shard must never stand still for a disk. The pool refuses to grow its queue past its bound, does not
//! read for a caller that has gone away, and turns a panic of the database on damaged bytes into an
//! answer.

use crate::bell::{Answer, Answered, Bell};
use crate::engine::{EngineError, Page, Scan};
use bytes::Bytes;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// What the pool reads from.
pub(crate) trait Tables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError>;
    fn scan(&self, scan: &Scan) -> Result<Page, EngineError>;
}

/// The asking side, shared by all handles of a store.
pub(crate) struct ReadPool {
    waiting_max: usize,
    queue: Mutex<Queue>,
    work_came: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    idle_threads: usize,
    is_closed: bool,
}

struct Waiting {
    read: Read,
    /// The bell of the shard that waits, if it has one.
    bell: Option<Arc<Bell>>,
}

enum Read {
    Get(Bytes, Answer<Option<Bytes>>),
    Scan(Scan, Answer<Page>),
}

type Asked<T> = Result<oneshot::Receiver<Result<T, EngineError>>, EngineError>;

impl ReadPool {
    pub(crate) fn new(waiting_max: usize) -> ReadPool {
        ReadPool { waiting_max, queue: Mutex::default(), work_came: Condvar::new() }
    }

    pub(crate) fn get(&self, key: &[u8], bell: Option<&Arc<Bell>>) -> Asked<Option<Bytes>> {
        let (answer, asked) = oneshot::channel();
        self.submit(Read::Get(Bytes::copy_from_slice(key), answer), bell)?;
        Ok(asked)
    }

    pub(crate) fn scan(&self, scan: Scan, bell: Option<&Arc<Bell>>) -> Asked<Page> {
        let (answer, asked) = oneshot::channel();
        self.submit(Read::Scan(scan, answer), bell)?;
        Ok(asked)
    }

    /// Takes in nothing more; what already waits is still read, then [`ReadPool::run`] returns.
    pub(crate) fn close(&self) {
        self.queue().is_closed = true;
        self.work_came.notify_all();
    }

    /// Reads until the pool is closed; the body of each of its threads.
    pub(crate) fn run(&self, tables: &impl Tables) {
        while let Some(Waiting { read, bell }) = self.next() {
            let answered = match read {
                Read::Get(_, answer) if answer.is_closed() => continue,
                Read::Scan(_, answer) if answer.is_closed() => continue,
                Read::Get(key, answer) => Answered::Get(answer, guarded(|| tables.get(&key))),
                Read::Scan(scan, answer) => Answered::Scan(answer, guarded(|| tables.scan(&scan))),
            };
            match bell {
                Some(bell) => bell.ring([answered]),
                None => answered.deliver(),
            }
        }
    }

    fn next(&self) -> Option<Waiting> {
        let mut queue = self.queue();
        loop {
            if let Some(waiting) = queue.waiting.pop_front() {
                return Some(waiting);
            }
            if queue.is_closed {
                return None;
            }
            queue.idle_threads += 1;
            queue = self.work_came.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle_threads -= 1;
        }
    }

    fn submit(&self, read: Read, bell: Option<&Arc<Bell>>) -> Result<(), EngineError> {
        let mut queue = self.queue();
        if queue.is_closed {
            return Err(EngineError::Closed);
        }
        if queue.waiting.len() >= self.waiting_max {
            return Err(EngineError::Busy);
        }
        queue.waiting.push_back(Waiting { read, bell: bell.cloned() });
        let must_wake = queue.idle_threads > 0;
        drop(queue);
        if must_wake {
            self.work_came.notify_one();
        }
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // No code panics while it holds the lock; if it did, the queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn guarded<T>(read: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(EngineError::Corrupt("the database panicked on what it read".to_owned())))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test's unwrap is its assertion
mod tests {
    use super::*;

    struct Scripted;

    impl Tables for Scripted {
        fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
            assert_ne!(key, b"damaged", "the test's damaged row");
            Ok(Some(Bytes::copy_from_slice(key)))
        }

        fn scan(&self, _: &Scan) -> Result<Page, EngineError> {
            Ok(Page::default())
        }
    }

    #[test]
    fn a_queue_at_its_bound_turns_a_read_away() {
        let pool = ReadPool::new(2);
        let first = pool.get(b"a", None).unwrap();
        let _second = pool.get(b"b", None).unwrap();
        assert_eq!(pool.get(b"c", None).unwrap_err(), EngineError::Busy);
        pool.close();
        assert_eq!(pool.get(b"d", None).unwrap_err(), EngineError::Closed);
        pool.run(&Scripted);
        assert_eq!(first.blocking_recv().unwrap(), Ok(Some(Bytes::from_static(b"a"))));
    }

    #[test]
    fn a_panic_over_one_row_is_that_rows_error_and_no_other() {
        let pool = ReadPool::new(2);
        let damaged = pool.get(b"damaged", None).unwrap();
        let sound = pool.get(b"sound", None).unwrap();
        pool.close();
        pool.run(&Scripted);
        assert!(matches!(damaged.blocking_recv().unwrap(), Err(EngineError::Corrupt(_))));
        assert_eq!(sound.blocking_recv().unwrap(), Ok(Some(Bytes::from_static(b"sound"))));
    }
}
