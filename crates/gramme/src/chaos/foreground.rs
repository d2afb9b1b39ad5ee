//! Clients who go on at an even pace while something else happens, and how long their requests took: reads and
//! writes on keys of their own, not as fast as they can be. And those who are: one request for each of many keys.

use crate::failure::Failure;
use gramme_client::{Client, Options};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::time::interval;

/// Requests of the foreground in one phase, in microseconds, ascending.
#[derive(Default)]
pub(super) struct Took(Vec<u32>);

impl Took {
    /// How many there were.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn of(mut all: Vec<u32>) -> Took {
        all.sort_unstable();
        Took(all)
    }

    /// The time within which so many per cent of them were served, in microseconds.
    pub(super) fn at(&self, per_cent: usize) -> u32 {
        self.0.get(self.0.len() * per_cent / 100).copied().unwrap_or_default()
    }
}

/// Clients who go on at an even pace: reads and writes on keys of their own.
pub(super) struct Foreground {
    took: Rc<RefCell<Vec<u32>>>,
    stop: Rc<Cell<bool>>,
}

impl Foreground {
    /// They begin.
    pub(super) fn begin(urls: &[String]) -> Result<Foreground, Failure> {
        let foreground = Foreground { took: Rc::default(), stop: Rc::default() };
        for number in 0..CLIENTS {
            let client = Client::without_asking(urls, Options { token: None, spread: true })?;
            let (took, stop) = (foreground.took.clone(), foreground.stop.clone());
            tokio::task::spawn_local(async move {
                let mut pace = interval(PACE);
                let mut turn = 0u32;
                while !stop.get() {
                    pace.tick().await;
                    turn += 1;
                    let key = format!("foreground-{number}-{}", turn / 2 % KEYS);
                    let begun = Instant::now();
                    // A request that fails counts as long as it took; failures are what the rounds judge.
                    if turn.is_multiple_of(2) {
                        drop(client.put(BUCKET, key.as_bytes(), turn.to_string()).await);
                    } else {
                        drop(client.get(BUCKET, key.as_bytes()).await);
                    }
                    took.borrow_mut().push(begun.elapsed().as_micros().min(u32::MAX.into()) as u32);
                }
            });
        }
        Ok(foreground)
    }

    /// What took how long since this was last asked.
    pub(super) fn take(&self) -> Took {
        Took::of(self.took.take())
    }

    /// They end after their request.
    pub(super) fn stop(&self) {
        self.stop.set(true);
    }
}

/// Does something for each key, many at once and as fast as they are served; gives how many were not.
pub(super) async fn each_key(
    urls: &[String],
    keys: u32,
    serve: impl AsyncFn(&Client, u32) -> bool + Copy + 'static,
) -> Result<u32, Failure> {
    let client = Client::without_asking(urls, Options { token: None, spread: true })?;
    let (next, failed) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let mut running = Vec::new();
    for _ in 0..AT_ONCE {
        let (client, next, failed) = (client.clone(), next.clone(), failed.clone());
        running.push(tokio::task::spawn_local(async move {
            while next.get() < keys {
                let number = next.replace(next.get() + 1);
                if !serve(&client, number).await {
                    failed.set(failed.get() + 1);
                }
            }
        }));
    }
    for worker in running {
        worker.await.map_err(|e| Failure::failed(format!("a client of the run broke: {e}")))?;
    }
    Ok(failed.get())
}

const AT_ONCE: usize = 32;
const BUCKET: &str = "default";
const CLIENTS: u32 = 4;
const KEYS: u32 = 100;
/// 4 clients: 200 requests a second.
const PACE: Duration = Duration::from_millis(20);
