//! [`SimEngine`]: the storage trait over a simulated [`Disk`](crate::disk::Disk), for one life of one host.
//! What a dead life asks for is refused and changes nothing.

use crate::executor::Owner;
use crate::timer::Sleep;
use crate::world::World;
use bytes::Bytes;
use gramme_storage::{Batch, Engine, EngineError, Page, Scan, Stats};
use std::future::Future;
use std::rc::Rc;
use tokio::sync::oneshot;

/// See the module.
#[derive(Clone)]
pub struct SimEngine {
    world: Rc<World>,
    host: usize,
    boot: u32,
}

impl SimEngine {
    /// The disk of a host as one of its lives sees it.
    pub fn new(world: Rc<World>, host: usize, boot: u32) -> SimEngine {
        SimEngine { world, host, boot }
    }

    fn is_closed(&self) -> bool {
        !self.world.is_alive(Owner::Host { host: self.host, boot: self.boot })
    }

    fn append(&self, batch: Batch) -> Result<oneshot::Receiver<Result<(), EngineError>>, EngineError> {
        if self.is_closed() {
            return Err(EngineError::Closed);
        }
        let (answer, asked) = oneshot::channel();
        if let Some(delay) = self.world.with_disk(self.host, |disk| disk.append(batch, answer))? {
            self.world.sync_ends(delay, self.host, self.boot);
        }
        Ok(asked)
    }

    async fn read<T>(
        &self,
        read: impl Fn(&mut crate::disk::Disk) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        if self.is_closed() {
            return Err(EngineError::Closed);
        }
        let (wait, is_early) = self.world.with_disk(self.host, |disk| disk.read_wait());
        let Some(wait) = wait else { return self.world.with_disk(self.host, &read) };
        let early = is_early.then(|| self.world.with_disk(self.host, &read));
        Sleep::span(self.world.clone(), wait).await;
        while self.world.with_disk(self.host, |disk| disk.condition.stalled) {
            let (wait, _) = self.world.with_disk(self.host, |disk| disk.read_wait());
            Sleep::span(self.world.clone(), wait.unwrap_or_default()).await;
        }
        match early {
            Some(found) => found,
            None => self.world.with_disk(self.host, &read),
        }
    }
}

impl Engine for SimEngine {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, EngineError> {
        self.read(|disk| disk.get(key)).await
    }

    fn commit(&self, batch: Batch) -> impl Future<Output = Result<(), EngineError>> + 'static {
        let asked = self.append(batch);
        async move { asked?.await.unwrap_or(Err(EngineError::Closed)) }
    }

    async fn scan(&self, scan: Scan) -> Result<Page, EngineError> {
        self.read(|disk| disk.scan(&scan)).await
    }

    fn drop_partition(&self, partition: u16) -> impl Future<Output = Result<(), EngineError>> {
        let batch = self.world.with_disk(self.host, |disk| disk.removal_of(partition));
        self.commit(batch)
    }

    fn sync(&self) -> impl Future<Output = Result<(), EngineError>> {
        self.commit(Batch::new())
    }

    fn stats(&self) -> Stats {
        self.world.with_disk(self.host, |disk| disk.stats())
    }
}
