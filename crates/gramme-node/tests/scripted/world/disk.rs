//! The disk of a story.

use bytes::Bytes;
use gramme_node::rows::KIND_DATA;
use gramme_storage::memory::MemoryEngine;
use gramme_storage::{Batch, Engine, EngineError, Page, Scan, Stats};
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use std::task::{Context as Cx, Poll, Waker};
/// A memory engine whose disk is as slow and as broken as the story says. Like a real one it may show a batch
/// before that is durable.
#[derive(Clone)]
pub struct ScriptEngine {
    pub(super) memory: MemoryEngine,
    moods: Rc<Moods>,
}

#[derive(Default)]
struct Moods {
    commits: Cell<usize>,
    commits_held: Cell<bool>,
    commits_released: Cell<usize>,
    reads_held: Cell<bool>,
    commit_error: RefCell<Option<EngineError>>,
    full: Cell<bool>,
    pages_damaged: Cell<bool>,
    read_error: RefCell<Option<EngineError>>,
    waiting: RefCell<Vec<Waker>>,
}

impl Moods {
    fn holds_commit(&self) -> bool {
        let released = self.commits_released.replace(0) > 0;
        self.commits_held.get() && !released
    }
}

impl ScriptEngine {
    /// A sound disk with this on it.
    pub fn new(memory: MemoryEngine) -> ScriptEngine {
        ScriptEngine { memory, moods: Rc::default() }
    }

    pub fn commits(&self) -> usize {
        self.moods.commits.get()
    }

    pub fn hold_commits(&self, hold: bool) {
        self.moods.commits_held.set(hold);
        self.moods.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// Lets one of the commits that are held go on.
    pub fn release_one_commit(&self) {
        self.moods.commits_released.set(1);
        self.moods.waiting.take().into_iter().for_each(Waker::wake);
    }

    /// The largest value of the rows that begin like this, in bytes.
    pub fn largest_row(&self, prefix: &[u8]) -> usize {
        let prefix = Bytes::copy_from_slice(prefix);
        let scan = Scan { prefix, after: None, rows_max: 1000, bytes_max: usize::MAX };
        let mut page = Box::pin(self.memory.scan(scan));
        match page.as_mut().poll(&mut Cx::from_waker(Waker::noop())) {
            Poll::Ready(Ok(page)) => page.rows.iter().map(|row| row.1.len()).max().unwrap_or(0),
            other => panic!("memory does not wait: {other:?}"),
        }
    }

    pub fn hold_reads(&self, hold: bool) {
        self.moods.reads_held.set(hold);
        self.moods.waiting.take().into_iter().for_each(Waker::wake);
    }

    pub fn break_commits(&self) {
        let cause = EngineError::Poisoned("the story says so".to_string());
        *self.moods.commit_error.borrow_mut() = Some(cause);
    }

    /// The disk has no room, or has it again.
    pub fn fill(&self, full: bool) {
        self.moods.full.set(full);
    }

    pub fn break_reads(&self, cause: Option<EngineError>) {
        *self.moods.read_error.borrow_mut() = cause;
    }

    /// Every page of home data lacks rows from now on, or no longer does.
    pub fn damage_pages(&self, damaged: bool) {
        self.moods.pages_damaged.set(damaged);
    }

    fn until(moods: Rc<Moods>, held: fn(&Moods) -> bool) -> impl Future<Output = ()> {
        poll_fn(move |cx| {
            if held(&moods) {
                moods.waiting.borrow_mut().push(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(())
        })
    }
}

impl Engine for ScriptEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        ScriptEngine::until(self.moods.clone(), |moods| moods.reads_held.get()).await;
        if let Some(cause) = self.moods.read_error.borrow().clone() {
            return Err(cause);
        }
        self.memory.get(key).await
    }

    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static {
        let moods = self.moods.clone();
        moods.commits.set(moods.commits.get() + 1);
        let full = moods.full.get();
        let applied = self.memory.commit(if full { Batch::new() } else { batch });
        async move {
            if full {
                return Err(EngineError::Full);
            }
            ScriptEngine::until(moods.clone(), Moods::holds_commit).await;
            if let Some(cause) = moods.commit_error.borrow().clone() {
                return Err(cause);
            }
            applied.await
        }
    }

    async fn scan(&self, scan: Scan) -> Result<Page, EngineError> {
        let damaged = self.moods.pages_damaged.get() && scan.prefix.get(2) == Some(&KIND_DATA);
        let page = self.memory.scan(scan).await?;
        Ok(Page { damaged, ..page })
    }

    async fn drop_partition(&self, partition: u16) -> Result<(), EngineError> {
        self.memory.drop_partition(partition).await
    }

    async fn sync(&self) -> Result<(), EngineError> {
        self.memory.sync().await
    }

    fn stats(&self) -> Stats {
        self.memory.stats()
    }
}
