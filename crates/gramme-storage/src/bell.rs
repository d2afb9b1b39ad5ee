//! Answers travel from the threads of an engine to a shard in heaps, with one wake-up per heap.
//!
//! Waking a task from another thread costs a system call in most runtimes, and a group commit answers a
//! hundred tasks at once. So answers for a shard are laid down here and its bell is rung once; a task of
//! the shard itself, [`Deliveries`], then hands them out, and waking a neighbour on the own thread costs
//! next to nothing. Without that task, before it first runs and after it is gone, every answer is sent
//! directly: slower, and just as right.

use crate::engine::{EngineError, Page};
use bytes::Bytes;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::oneshot;

/// Where one operation's answer goes.
pub(crate) type Answer<T> = oneshot::Sender<Result<T, EngineError>>;

/// An answer on its way.
pub(crate) enum Answered {
    Commit(Answer<()>, Result<(), EngineError>),
    Get(Answer<Option<Bytes>>, Result<Option<Bytes>, EngineError>),
    Scan(Answer<Page>, Result<Page, EngineError>),
}

/// Where the answers for one shard are laid down.
#[derive(Default)]
pub(crate) struct Bell {
    heap: Mutex<Heap>,
}

#[derive(Default)]
struct Heap {
    answered: Vec<Answered>,
    /// Set while the deliveries sleep.
    waker: Option<Waker>,
    is_attended: bool,
}

/// Hands out a shard's answers for as long as it is polled: to be spawned on the shard's own runtime,
/// once. It never resolves; dropping it delivers what is left.
pub struct Deliveries {
    bell: Arc<Bell>,
}

impl Answered {
    pub(crate) fn deliver(self) {
        // Whoever dropped the future does not want the answer; what was asked is done all the same.
        match self {
            Answered::Commit(to, result) => drop(to.send(result)),
            Answered::Get(to, result) => drop(to.send(result)),
            Answered::Scan(to, result) => drop(to.send(result)),
        }
    }
}

impl Bell {
    pub(crate) fn new() -> (Arc<Bell>, Deliveries) {
        let bell = Arc::<Bell>::default();
        (bell.clone(), Deliveries { bell })
    }

    /// Lays answers down and wakes the shard, or sends them directly if nobody attends to the bell.
    pub(crate) fn ring(&self, answers: impl IntoIterator<Item = Answered>) {
        let mut heap = self.heap();
        if heap.is_attended {
            heap.answered.extend(answers);
            let waker = heap.waker.take();
            drop(heap);
            if let Some(waker) = waker {
                waker.wake();
            }
        } else {
            drop(heap);
            answers.into_iter().for_each(Answered::deliver);
        }
    }

    fn heap(&self) -> MutexGuard<'_, Heap> {
        // No code panics while it holds the lock; if it did, the heap would still be whole.
        self.heap.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Future for Deliveries {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let answered = {
            let mut heap = self.bell.heap();
            heap.is_attended = true;
            heap.waker = Some(context.waker().clone());
            std::mem::take(&mut heap.answered)
        };
        answered.into_iter().for_each(Answered::deliver);
        Poll::Pending
    }
}

impl Drop for Deliveries {
    fn drop(&mut self) {
        let mut heap = self.bell.heap();
        heap.is_attended = false;
        heap.waker = None;
        let answered = std::mem::take(&mut heap.answered);
        drop(heap);
        answered.into_iter().for_each(Answered::deliver);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test's unwrap is its assertion
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn answers(count: usize) -> (Vec<Answered>, Vec<oneshot::Receiver<Result<(), EngineError>>>) {
        let pairs = (0..count).map(|_| oneshot::channel());
        pairs.map(|(to, from)| (Answered::Commit(to, Ok(())), from)).unzip()
    }

    #[test]
    fn a_heap_of_answers_wakes_the_shard_once_and_reaches_everyone() {
        let (bell, mut deliveries) = Bell::new();
        let wakes = Arc::<Wakes>::default();
        let waker = Waker::from(wakes.clone());
        let mut poll = || Pin::new(&mut deliveries).poll(&mut Context::from_waker(&waker));
        assert!(poll().is_pending());
        let (first, mut from_first) = answers(100);
        let (second, mut from_second) = answers(100);
        bell.ring(first);
        bell.ring(second);
        assert_eq!(wakes.0.load(SeqCst), 1);
        assert!(from_first[0].try_recv().is_err(), "not before the shard runs");
        assert!(poll().is_pending());
        assert!(from_first.iter_mut().chain(&mut from_second).all(|from| from.try_recv().unwrap() == Ok(())));
    }

    #[test]
    fn a_bell_that_nobody_attends_sends_every_answer_directly() {
        let (bell, mut deliveries) = Bell::new();
        let (before, mut from_before) = answers(1);
        bell.ring(before);
        assert_eq!(from_before[0].try_recv().unwrap(), Ok(()));

        let waker = Waker::from(Arc::<Wakes>::default());
        assert!(Pin::new(&mut deliveries).poll(&mut Context::from_waker(&waker)).is_pending());
        let (left, mut from_left) = answers(1);
        bell.ring(left);
        drop(deliveries);
        assert_eq!(from_left[0].try_recv().unwrap(), Ok(()), "dropping delivers what is left");
        let (after, mut from_after) = answers(1);
        bell.ring(after);
        assert_eq!(from_after[0].try_recv().unwrap(), Ok(()));
    }
}
