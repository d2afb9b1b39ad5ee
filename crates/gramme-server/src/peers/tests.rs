//! Shards of several nodes in one thread, with sockets between them and nothing behind: who meets whom as rings change.

use super::*;
use crate::identity::Identity;
use crate::metrics::Metrics;
use crate::store::Store;
use futures_util::FutureExt;
use gramme_core::{ClusterId, Layout, LayoutHash, Member, StoreId};
use gramme_node::{Event, Peer, Ring};
use gramme_storage::memory::MemoryEngine;
use std::collections::BTreeSet;
use tokio::net::TcpListener;
use tokio::time::sleep;

/// One node of one shard.
struct Host {
    id: NodeId,
    address: String,
    peers: Rc<Peers>,
    inbox: Rc<Inbox>,
}

/// Members of the cluster file; nobody is where it says that they are.
const FILE: [u64; 3] = [1, 2, 3];

async fn host(id: u64, seeds: &[&str]) -> Host {
    let member = |id: u64| Member {
        id: NodeId(id),
        name: format!("n{id}"),
        address: format!("127.0.0.1:{id}"),
        http: String::new(),
        zone: "z".to_owned(),
        weight: 1,
    };
    let first = Arc::new(Layout::first(FILE.map(member).to_vec(), 3, 4).unwrap());
    let hello = Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: 0,
        critical: 0,
        cluster: ClusterId(7),
        node: NodeId(id),
        layout: LayoutHash(0),
        store: StoreId(id),
        shard: 0,
        shards: 1,
        boot: id,
        http: String::new(),
        resp: String::new(),
        nonce: [0; 16],
    };
    let store = Store::Memory(MemoryEngine::new());
    let identity = Identity::open(store, NodeId(id), FILE.map(NodeId)).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let seeds = seeds.iter().map(|seed| seed.replace("SELF", &address)).collect();
    let company = Arc::new(Company::new(hello, *b"sixteen secrets!", identity, None, first, seeds));
    let inbox = Rc::new(Inbox::default());
    let links = Links::new(inbox.clone(), false);
    let metrics = Rc::new(ShardMetrics::new(&Metrics::new("memory"), 0));
    let peers = Peers::new(company, 0, Shards::new(1, 4), links, inbox.clone(), metrics);
    tokio::task::spawn_local(listen(listener, peers.clone()));
    tokio::task::spawn_local(peers.clone().dial_for_ever());
    Host { id: NodeId(id), address, peers, inbox }
}

async fn listen(listener: TcpListener, peers: Rc<Peers>) {
    while let Ok((socket, _)) = listener.accept().await {
        peers.accept(socket.into_std().unwrap());
    }
}

impl Host {
    /// Says which nodes are its peers, and who is gone.
    fn ring(&self, peers: &[&Host], gone: &[&Host]) {
        let peer =
            |host: &&Host| (host.id, Peer { name: host.id.to_string(), address: host.address.clone() });
        let before = self.peers.company.ring();
        self.peers.company.ring_is(Arc::new(Ring {
            peers: peers.iter().map(peer).collect(),
            gone: gone.iter().map(|host| host.id).collect(),
            ..Ring::clone(&before)
        }));
    }

    fn sees(&self, other: &Host) -> bool {
        self.peers.links.is_connected(other.id)
    }

    /// Why the last attempts to reach others, or to be reached, came to nothing.
    fn complaints(&self) -> BTreeSet<String> {
        self.peers.complaints.borrow().values().map(|(text, _)| text.clone()).collect()
    }

    /// Peers that came (`true`) and went, in order.
    fn news(&self) -> Vec<(NodeId, bool)> {
        let mut events = Vec::new();
        let _ = self.inbox.take(&mut events, 100).now_or_never();
        let news = events.into_iter().filter_map(|event| match event {
            Event::PeerUp(node) => Some((node, true)),
            Event::PeerDown(node) => Some((node, false)),
            _ => None,
        });
        news.collect()
    }
}

fn run(story: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default()).unwrap();
    runtime.block_on(story);
}

async fn until(mut holds: impl FnMut() -> bool) {
    let look = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(60), look).await.expect("it comes to that");
}

#[test]
fn a_peer_that_appears_is_called_and_one_that_leaves_is_let_go_of() {
    run(async {
        let (a, b) = (host(1, &[]).await, host(4, &[]).await);
        a.ring(&[&b], &[]);
        until(|| a.sees(&b) && b.sees(&a)).await;
        a.ring(&[], &[]);
        until(|| !a.sees(&b) && !b.sees(&a)).await;
        assert_eq!(a.news(), [(b.id, true), (b.id, false)]);
        a.ring(&[&b], &[]);
        until(|| a.sees(&b) && b.sees(&a)).await;
        assert_eq!(a.peers.bells.borrow().len(), 1);
    });
}

#[test]
fn a_node_that_is_no_peer_calls_and_is_heard() {
    run(async {
        let (member, joiner) = (host(1, &[]).await, host(4, &[]).await);
        member.ring(&[], &[]);
        joiner.ring(&[&member], &[]);
        until(|| member.sees(&joiner) && joiner.sees(&member)).await;
        member.ring(&[&joiner], &[]);
        until(|| !member.peers.bells.borrow().is_empty()).await;
        assert!(member.sees(&joiner), "it is let in, and keeps what it has");
    });
}

#[test]
fn a_peer_is_found_at_its_latest_address() {
    run(async {
        let (a, nobody, b) = (host(1, &[]).await, host(9, &[]).await, host(4, &[]).await);
        let moved = Host { address: nobody.address.clone(), ..host(4, &[]).await };
        a.ring(&[&moved], &[]);
        until(|| a.complaints().iter().any(|why| why.contains("answers at the address of node"))).await;
        assert!(!a.sees(&b));
        a.ring(&[&b], &[]);
        until(|| a.sees(&b)).await;
    });
}

#[test]
fn whoever_is_gone_is_let_go_of_and_refused_whoever_calls() {
    run(async {
        let (a, removed) = (host(1, &[]).await, host(2, &[]).await);
        a.ring(&[&removed], &[]);
        removed.ring(&[&a], &[]);
        until(|| a.sees(&removed) && removed.sees(&a)).await;
        a.ring(&[], &[&removed]);
        let why = "the peer refuses this node: node 0000000000000002 was removed from this cluster and cannot come back: give it an empty data directory and a new node.id, and have it ask to join";
        until(|| !a.sees(&removed) && removed.complaints().contains(why)).await;
        let mut letters = Vec::new();
        removed.peers.shards.collect(0, &mut letters).await;
        let says_so = |letter: &Letter| matches!(letter, Letter::Event(Event::Fact(Fact::Removed)));
        assert!(letters.iter().any(says_so), "its own directory may know nothing of it");

        let seeded = host(3, &[&removed.address]).await;
        seeded.ring(&[], &[&removed]);
        let why = "the peer was refused: node 0000000000000002 was removed";
        until(|| seeded.complaints().iter().any(|said| said.starts_with(why))).await;
        assert!(!seeded.sees(&removed));
    });
}

#[test]
fn seeds_are_called_while_nobody_of_the_ring_is_there() {
    run(async {
        let seed = host(5, &[]).await;
        let a = host(1, &["SELF", &seed.address]).await;
        seed.ring(&[], &[]);
        until(|| a.sees(&seed) && seed.sees(&a)).await;
        assert!(!a.complaints().iter().any(|why| why.contains("called itself")), "it may be a seed itself");

        let b = host(2, &[&seed.address]).await;
        b.ring(&[&a], &[]);
        until(|| b.sees(&a)).await;
        seed.ring(&[], &[&b]);
        until(|| !seed.sees(&b)).await;
        assert!(b.sees(&a), "and with somebody of the ring it needs none");
    });
}
