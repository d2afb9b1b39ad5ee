//! What clients come in by: [`http`] and [`resp`], and what both share.

pub(crate) mod http;
pub(crate) mod resp;
pub(crate) mod words;

use crate::ground::Ground;
use crate::load::Load;
use crate::mailbox::{Door, Shards};
use crate::metrics::Metrics;
use crate::peers::Company;
use crate::run::{Addresses, Phase};
use crate::settings::Token;
use crate::store::Store;
use gramme_core::gossip::NodeFact;
use gramme_core::limits::{IN_FLIGHT_BYTES_MAX, REQUEST_MS};
use gramme_core::{Key, Layout, NodeId};
use gramme_node::request::{Call, Request, Response, Status};
use gramme_wire::{Failure, Reason};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// What a call met that was not answered as asked.
pub(crate) fn failure_of(response: Response) -> Box<Failure> {
    match response {
        Response::Failed(failure) => failure,
        other => {
            tracing::error!(?other, "a shard answered another question than was asked");
            Box::new(Failure::not_applied(Reason::Overloaded))
        }
    }
}

/// Where a node is, as it tells the others.
pub(crate) struct Place {
    /// Where peers reach it: `host:port`.
    pub(crate) address: String,
    /// What fails together with it.
    pub(crate) zone: String,
}

/// What every connection of every door may ask of this process.
pub(crate) struct Service {
    pub(crate) company: Arc<Company>,
    pub(crate) shards: Shards,
    pub(crate) token: Option<Token>,
    pub(crate) store: Store,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) addresses: Addresses,
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) ground: Ground,
    pub(crate) load: Load,
    pub(crate) started: Instant,
    pub(crate) overview: http::Overview,
    /// Connections of both doors.
    clients: [AtomicUsize; 2],
    /// Bytes of request bodies that are being received or worked on.
    body_bytes: AtomicUsize,
}

impl Service {
    /// A service that nobody uses yet.
    #[expect(clippy::too_many_arguments, reason = "the parts of a process, named once")]
    pub(crate) fn new(
        company: Arc<Company>,
        shards: Shards,
        token: Option<Token>,
        store: Store,
        metrics: Arc<Metrics>,
        phase: watch::Receiver<Phase>,
        addresses: Addresses,
        name: String,
        place: Place,
        ground: Ground,
    ) -> Arc<Service> {
        let load = Load::new(company.first.partitions(), shards.count());
        Arc::new(Service {
            company,
            shards,
            token,
            store,
            metrics,
            phase,
            addresses,
            name,
            place,
            ground,
            load,
            started: Instant::now(),
            overview: http::Overview::default(),
            clients: Default::default(),
            body_bytes: AtomicUsize::new(0),
        })
    }

    /// The layout that reads go by.
    pub(crate) fn layout(&self) -> Arc<Layout> {
        self.company.ring().reads.clone()
    }

    /// How many partitions there are, by any layout of the cluster.
    pub(crate) fn partitions(&self) -> usize {
        self.company.first.partitions()
    }

    /// What this node says of itself to the others.
    pub(crate) fn fact(&self) -> NodeFact {
        let hello = &self.company.hello;
        NodeFact {
            name: self.name.clone(),
            address: self.place.address.clone(),
            http: hello.http.clone(),
            zone: self.place.zone.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            features: hello.features,
        }
    }

    /// This node.
    pub(crate) fn node(&self) -> NodeId {
        self.company.hello.node
    }

    /// Whether the bucket of this key wants a context with every put and delete.
    pub(crate) async fn requires_context(&self, key: &Key) -> Result<bool, Box<Failure>> {
        let request = Request::Bucket(key.bucket().to_owned());
        match self.shards.call(Call { timeout_ms: REQUEST_MS, request }).await {
            Response::Bucket(settings) => Ok(settings.require_context),
            other => Err(failure_of(other)),
        }
    }

    /// Whether this node is on its way out.
    pub(crate) fn is_draining(&self) -> bool {
        *self.phase.borrow() != Phase::Serving
    }

    /// What each shard knows of itself and its peers; a shard that does not answer is left out.
    pub(crate) async fn statuses(&self) -> Vec<Status> {
        let ask = |shard| {
            let call = Call { timeout_ms: gramme_core::limits::REQUEST_MS, request: Request::Status };
            self.shards.call_on(shard, call)
        };
        let answers = futures_util::future::join_all((0..self.shards.count()).map(ask)).await;
        let status = |answer| if let Response::Status(status) = answer { Some(*status) } else { None };
        answers.into_iter().filter_map(status).collect()
    }

    /// A place for one more client; `None` if the door is full.
    pub(crate) fn admit(self: &Arc<Self>, door: Door) -> Option<Guest> {
        let count = &self.clients[door as usize];
        if count.fetch_add(1, Ordering::Relaxed) >= CLIENTS_MAX {
            count.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Guest { service: self.clone(), door })
    }

    /// Clients of a door.
    pub(crate) fn clients(&self, door: Door) -> usize {
        self.clients[door as usize].load(Ordering::Relaxed)
    }

    /// Room for the body of a request, to be grown as it arrives.
    pub(crate) fn body_room(self: &Arc<Self>) -> BodyRoom {
        BodyRoom { service: self.clone(), bytes: 0 }
    }
}

/// A client's place.
pub(crate) struct Guest {
    service: Arc<Service>,
    door: Door,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.service.clients[self.door as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory that a request's body takes, given back when the request ends.
pub(crate) struct BodyRoom {
    service: Arc<Service>,
    bytes: usize,
}

impl BodyRoom {
    /// Takes so many bytes more; `false` if bodies already take all they may.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        if self.service.body_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > IN_FLIGHT_BYTES_MAX {
            self.service.body_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.service.body_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Connections of one door: as many as Redis allows by default.
const CLIENTS_MAX: usize = 10_000;
