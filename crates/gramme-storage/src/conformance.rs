//! What every engine must do, as checks that run on any of them and on any executor.
//!
//! The checks are plain futures: the caller brings the engine and polls them, on tokio or in a simulated
//! world. A check panics with what it expected; it never sleeps and draws everything from its seed.
//! What needs a crash (durability, atomicity under kill) cannot be said here; it is in each engine's own
//! tests.

use crate::engine::{Batch, Engine, Page, Scan};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;

/// Runs every check, each on a fresh engine.
pub async fn check_all<E: Engine>(fresh: impl AsyncFn() -> E, seed: u64) {
    check_empty(&fresh().await).await;
    check_order(&fresh().await).await;
    check_last_change_of_a_batch_wins(&fresh().await).await;
    check_page_bounds(&fresh().await).await;
    check_edge_keys(&fresh().await).await;
    check_drop_partition(&fresh().await).await;
    check_drop_partition_keeps_its_place(&fresh().await).await;
    check_sizes(&fresh().await).await;
    check_random_walk(&fresh().await, seed, 400).await;
}

/// An engine with nothing in it says so, and takes an empty batch.
pub async fn check_empty<E: Engine>(engine: &E) {
    assert_eq!(engine.get(b"\0\0k").await, Ok(None));
    assert_eq!(engine.scan(everything(b"\0\0")).await, Ok(Page::default()));
    assert_eq!(engine.commit(Batch::new()).await, Ok(()));
    assert_eq!(engine.drop_partition(3).await, Ok(()));
    assert_eq!(engine.sync().await, Ok(()));
}

/// The order is that of the calls, however the futures are polled, and also if they are dropped.
pub async fn check_order<E: Engine>(engine: &E) {
    let writes: Vec<_> = (0..50u8).map(|turn| Box::pin(engine.commit(one(b"\0\x01k", &[turn])))).collect();
    for write in writes.into_iter().rev() {
        assert_eq!(write.await, Ok(()));
    }
    let read = engine.get(b"\0\x01k").await;
    assert_eq!(read, Ok(Some(Bytes::from_static(&[49]))), "the last call wins, though it was polled first");

    drop(engine.commit(one(b"\0\x01k", b"dropped")));
    assert_eq!(engine.sync().await, Ok(()));
    let read = engine.get(b"\0\x01k").await;
    assert_eq!(read, Ok(Some(Bytes::from_static(b"dropped"))), "a dropped future abandons nothing");
}

/// Of two changes of one key in one batch the later wins, in both directions.
pub async fn check_last_change_of_a_batch_wins<E: Engine>(engine: &E) {
    let mut batch = Batch::new();
    batch.set(&b"\0\x01a"[..], &b"first"[..]);
    batch.set(&b"\0\x01b"[..], &b"first"[..]);
    batch.remove(&b"\0\x01c"[..]);
    batch.set(&b"\0\x01a"[..], &b"second"[..]);
    batch.remove(&b"\0\x01b"[..]);
    batch.set(&b"\0\x01c"[..], &b"second"[..]);
    assert_eq!(engine.commit(batch).await, Ok(()));
    assert_eq!(engine.get(b"\0\x01a").await, Ok(Some(Bytes::from_static(b"second"))));
    assert_eq!(engine.get(b"\0\x01b").await, Ok(None));
    assert_eq!(engine.get(b"\0\x01c").await, Ok(Some(Bytes::from_static(b"second"))));
}

/// A page holds to its bounds, always has its first row, and says when more may follow.
pub async fn check_page_bounds<E: Engine>(engine: &E) {
    let mut batch = Batch::new();
    for row in 0..10u8 {
        batch.set(vec![0, 2, row], vec![row; 100]);
    }
    assert_eq!(engine.commit(batch).await, Ok(()));
    let page = async |rows_max, bytes_max| {
        let scan = Scan { prefix: Bytes::from_static(b"\0\x02"), after: None, rows_max, bytes_max };
        let page = engine.scan(scan).await.expect("a sound engine scans");
        (page.rows.len(), page.more)
    };
    assert_eq!(page(3, usize::MAX).await, (3, true));
    assert_eq!(page(11, usize::MAX).await, (10, false));
    assert_eq!(page(10, 1).await, (1, true), "the first row is returned whole");
    assert_eq!(page(10, 0).await, (1, true), "the first row is returned whole");
    assert_eq!(page(10, 103).await, (1, true), "one row is 103 bytes");
    assert_eq!(page(10, 104).await, (2, true), "the row that crosses the bound is the last");
}

/// Neighbouring prefixes, a prefix of all ones, a key that equals the prefix, and an `after` outside it.
pub async fn check_edge_keys<E: Engine>(engine: &E) {
    let keys: [&[u8]; 7] =
        [b"\0\xff", b"\0\xff\xff", b"\x01\0", b"\x01\0\0", b"\xff\xfe\xff", b"\xff\xff", b"\xff\xff\xff\xff"];
    let mut batch = Batch::new();
    for key in keys {
        batch.set(key.to_vec(), b"v".to_vec());
    }
    assert_eq!(engine.commit(batch).await, Ok(()));
    let keys_of = async |prefix: &'static [u8], after: Option<&'static [u8]>| {
        let after = after.map(Bytes::from_static);
        let page = engine.scan(Scan { after, ..everything(prefix) }).await.expect("a sound engine scans");
        page.rows.into_iter().map(|(key, _)| key.to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(keys_of(b"\0\xff", None).await, [&b"\0\xff"[..], b"\0\xff\xff"]);
    assert_eq!(keys_of(b"\0\xff", Some(b"\0\xff")).await, [&b"\0\xff\xff"[..]]);
    assert_eq!(keys_of(b"\x01\0", Some(b"\0\0")).await, [&b"\x01\0"[..], b"\x01\0\0"]);
    assert_eq!(keys_of(b"\x01\0", Some(b"\x02")).await, Vec::<Vec<u8>>::new());
    assert_eq!(keys_of(b"\xff\xff", None).await, [&b"\xff\xff"[..], b"\xff\xff\xff\xff"]);
    assert_eq!(keys_of(b"\xff\xff\xff\xff", None).await, [&b"\xff\xff\xff\xff"[..]]);
}

/// Dropping a partition takes exactly its rows, and it can be filled again.
pub async fn check_drop_partition<E: Engine>(engine: &E) {
    for partition in [6u16, 7, 8, u16::MAX] {
        let mut batch = Batch::new();
        for row in 0..1500u16 {
            let key = [partition.to_be_bytes(), row.to_be_bytes()].concat();
            batch.set(key, b"v".to_vec());
        }
        assert_eq!(engine.commit(batch).await, Ok(()));
    }
    assert_eq!(engine.drop_partition(7).await, Ok(()));
    assert_eq!(engine.drop_partition(u16::MAX).await, Ok(()));
    let rows_of = async |prefix: &'static [u8]| {
        engine.scan(everything(prefix)).await.expect("a sound engine scans").rows.len()
    };
    assert_eq!(rows_of(b"\0\x06").await, 1500);
    assert_eq!(rows_of(b"\0\x07").await, 0);
    assert_eq!(rows_of(b"\0\x08").await, 1500);
    assert_eq!(rows_of(b"\xff\xff").await, 0);
    assert_eq!(engine.commit(one(b"\0\x07again", b"v")).await, Ok(()));
    assert_eq!(rows_of(b"\0\x07").await, 1);
}

/// A drop takes what was committed before the call and nothing that is committed after it, though all
/// are under way together.
pub async fn check_drop_partition_keeps_its_place<E: Engine>(engine: &E) {
    let mut batch = Batch::new();
    for row in 0..2000u16 {
        batch.set([&[0, 9], &row.to_be_bytes()[..]].concat(), b"before".to_vec());
    }
    let before = engine.commit(batch);
    let dropped = {
        // An engine may fix the drop's place at its call or at its first poll; poll it at once.
        let mut dropped = Box::pin(engine.drop_partition(9));
        let early =
            std::future::poll_fn(|context| std::task::Poll::Ready(dropped.as_mut().poll(context))).await;
        (dropped, early)
    };
    let neighbour = engine.commit(one(b"\0\x0ak", b"neighbour"));
    let after = engine.commit(one(b"\0\x09\0\x05", b"after"));
    assert_eq!(after.await, Ok(()));
    assert_eq!(neighbour.await, Ok(()));
    assert_eq!(before.await, Ok(()));
    match dropped {
        (_, std::task::Poll::Ready(early)) => assert_eq!(early, Ok(())),
        (dropped, std::task::Poll::Pending) => assert_eq!(dropped.await, Ok(())),
    }
    let page = engine.scan(everything(b"\0\x09")).await.expect("a sound engine scans");
    assert_eq!(page.rows, [(Bytes::from_static(b"\0\x09\0\x05"), Bytes::from_static(b"after"))]);
    assert_eq!(engine.get(b"\0\x0ak").await, Ok(Some(Bytes::from_static(b"neighbour"))));
}

/// Values from nothing to beyond what any door admits come back as they went in, alone and in one batch.
pub async fn check_sizes<E: Engine>(engine: &E) {
    let sizes = [0, 1, 4095, 4096, 16 << 10, (16 << 10) + 1, 1 << 20, (16 << 20) + 100];
    let value = |size: usize| Bytes::from((0..size).map(|at| (at % 251) as u8).collect::<Vec<u8>>());
    let key = |size: usize| [&b"\0\x03"[..], &(size as u64).to_be_bytes()].concat();
    let mut batch = Batch::new();
    for size in sizes {
        batch.set(key(size), value(size));
    }
    assert_eq!(engine.commit(batch).await, Ok(()));
    for size in sizes {
        let read = engine.get(&key(size)).await.expect("a sound engine reads");
        assert!(read == Some(value(size)), "a value of {size} bytes");
    }
    let long_key = [&b"\0\x04"[..], &[7; 4000]].concat();
    assert_eq!(engine.commit(one(&long_key, b"v")).await, Ok(()));
    assert_eq!(engine.get(&long_key).await, Ok(Some(Bytes::from_static(b"v"))));
}

/// Random operations over few keys against a map, in groups that wait for durability together.
pub async fn check_random_walk<E: Engine>(engine: &E, seed: u64, steps: u32) {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut model = BTreeMap::new();
    for step in 0..steps {
        let story = format!("seed {seed}, step {step}");
        match random.below(10) {
            0..=4 => commit_some(engine, &mut model, &mut random, &story).await,
            5..=6 => {
                let key = random.key();
                assert_eq!(engine.get(&key).await, Ok(model.get(&key).cloned()), "{story}: get {key:?}");
            }
            7..=8 => scan_all(engine, &model, &mut random, &story).await,
            _ if random.below(4) == 0 => {
                let partition = random.below(PARTITIONS) as u16;
                assert_eq!(engine.drop_partition(partition).await, Ok(()), "{story}");
                model.retain(|key: &Bytes, _| !key.starts_with(&partition.to_be_bytes()));
            }
            _ => assert_eq!(engine.sync().await, Ok(()), "{story}"),
        }
    }
}

/// One to eight batches under way at once, awaited in any order.
async fn commit_some<E: Engine>(
    engine: &E,
    model: &mut BTreeMap<Bytes, Bytes>,
    random: &mut Random,
    story: &str,
) {
    let mut waiting = Vec::new();
    for _ in 0..=random.below(8) {
        let mut batch = Batch::new();
        for _ in 0..random.below(5) {
            let key = random.key();
            if random.below(3) == 0 {
                batch.remove(key.clone());
                model.remove(&key);
            } else {
                let value = Bytes::from(vec![random.below(256) as u8; random.below(200)]);
                batch.set(key.clone(), value.clone());
                model.insert(key, value);
            }
        }
        waiting.push(Box::pin(engine.commit(batch)));
    }
    while !waiting.is_empty() {
        let next = waiting.swap_remove(random.below(waiting.len()));
        assert_eq!(next.await, Ok(()), "{story}: commit");
    }
}

/// Pages of a drawn size, one after the other, are together exactly what the model holds.
async fn scan_all<E: Engine>(engine: &E, model: &BTreeMap<Bytes, Bytes>, random: &mut Random, story: &str) {
    let mut prefix = (random.below(PARTITIONS) as u16).to_be_bytes().to_vec();
    if random.below(3) == 0 {
        prefix.push(random.below(KEY_LETTERS) as u8);
    }
    let prefix = Bytes::from(prefix);
    let (rows_max, bytes_max) = (1 + random.below(7), random.below(500));
    let mut after = (random.below(3) == 0).then(|| random.key());
    let is_wanted = |key: &Bytes, after: &Option<Bytes>| {
        key.starts_with(&prefix) && after.as_ref().is_none_or(|after| key > after)
    };
    let expected: Vec<(Bytes, Bytes)> = model
        .iter()
        .filter(|(key, _)| is_wanted(key, &after))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut read = Vec::new();
    loop {
        let scan = Scan { prefix: prefix.clone(), after: after.clone(), rows_max, bytes_max };
        let page = engine.scan(scan).await.expect("a sound engine scans");
        assert!(page.rows.len() <= rows_max, "{story}: {} rows of {rows_max}", page.rows.len());
        let bytes = |rows: &[(Bytes, Bytes)]| -> usize { rows.iter().map(|(k, v)| k.len() + v.len()).sum() };
        if let [_, .., _] = &page.rows[..] {
            let before_last = bytes(&page.rows[..page.rows.len() - 1]);
            assert!(before_last < bytes_max, "{story}: {before_last} bytes were enough of {bytes_max}");
        }
        assert!(!page.more || !page.rows.is_empty(), "{story}: a page that is empty ends the scan");
        after = page.rows.last().map(|(key, _)| key.clone()).or(after);
        read.extend(page.rows);
        if !page.more {
            break;
        }
    }
    assert_eq!(read, expected, "{story}: scan of {prefix:?}");
}

fn one(key: &[u8], value: &[u8]) -> Batch {
    let mut batch = Batch::new();
    batch.set(key.to_vec(), value.to_vec());
    batch
}

fn everything(prefix: &'static [u8]) -> Scan {
    Scan { prefix: Bytes::from_static(prefix), after: None, rows_max: usize::MAX, bytes_max: usize::MAX }
}

/// Marsaglia's xorshift64: enough for drawing cases, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        ((self.0 >> 16) % bound.max(1) as u64) as usize
    }

    /// Few keys, so that they meet: a partition and nothing to three letters.
    fn key(&mut self) -> Bytes {
        let mut key = (self.below(PARTITIONS) as u16).to_be_bytes().to_vec();
        for _ in 0..self.below(4) {
            key.push(self.below(KEY_LETTERS) as u8);
        }
        Bytes::from(key)
    }
}

const PARTITIONS: usize = 3;
const KEY_LETTERS: usize = 4;
