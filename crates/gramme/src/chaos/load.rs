//! What clients do: several at once, each one request after another, on few hot keys and many cold ones, with
//! contexts and without. Each writes down what it was shown and told, and nothing else.
//!
//! A value is text: the write's name, then the entries of a growing map if it is one.

use crate::failure::Failure;
use gramme_check::{Effect, Key, Kind, Left, Name, Read, Write};
use gramme_client::{Client, ContextToken, Error, Got, Options, Sibling};
use gramme_core::Outcome;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How a client finds a node that serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Always the same node first, another if that one fails or is silent.
    Loyal,
    /// All nodes in turn.
    Roaming,
}

impl Class {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Class::Loyal => "loyal",
            Class::Roaming => "roaming",
        }
    }
}

/// What one client did in one round.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) class: Class,
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<Read>,
    /// Requests that were answered as asked.
    pub(super) served: u64,
    /// Requests that no node served, with what was said.
    pub(super) failed: Vec<String>,
    /// Requests that every node would refuse, such as one sibling too many.
    pub(super) refused: u64,
    /// The longest time without a served request, and when it began.
    pub(super) gap: (Duration, u64),
    /// How long each served request took, in microseconds.
    pub(super) took: Vec<u32>,
}

/// What all clients of a run share.
pub(super) struct Book {
    begun: Instant,
    names: Cell<Name>,
    stop: Cell<bool>,
}

impl Book {
    pub(super) fn new() -> Rc<Book> {
        Rc::new(Book { begun: Instant::now(), names: Cell::new(0), stop: Cell::new(false) })
    }

    /// Microseconds since the run began.
    pub(super) fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Ends the clients of a round after their request, or lets those of the next begin.
    pub(super) fn set_stop(&self, stop: bool) {
        self.stop.set(stop);
    }

    fn name(&self) -> Name {
        self.names.set(self.names.get() + 1);
        self.names.get()
    }
}

/// The keys of a round: each of its own, so that a round is judged by itself and again at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) round: u32,
    pub(super) cold: u32,
}

impl Keys {
    /// All of them.
    pub(super) fn all(self) -> impl Iterator<Item = Key> {
        let first = self.round * KEYS_PER_ROUND;
        first..first + COLD + self.cold
    }

    fn pick(self, kind: Kind, rng: &mut Rng) -> Key {
        let within = match kind {
            Kind::Growing => rng.below(GROWING),
            Kind::Last => GROWING + rng.below(LAST),
            Kind::Siblings if rng.below(3) == 0 => GROWING + LAST + rng.below(HOT),
            Kind::Siblings => COLD + rng.below(self.cold),
        };
        self.round * KEYS_PER_ROUND + within
    }
}

/// Bucket and name of a key.
pub(super) fn place(key: Key) -> (&'static str, String) {
    let (round, within) = (key / KEYS_PER_ROUND, key % KEYS_PER_ROUND);
    let bucket = if (GROWING..GROWING + LAST).contains(&within) { "default" } else { "chaos" };
    (bucket, format!("round-{round}/key-{within}"))
}

/// What a value says.
pub(super) fn parse(value: &[u8]) -> Option<(Name, BTreeMap<u64, u64>)> {
    let mut words = std::str::from_utf8(value).ok()?.split(' ');
    let name = words.next()?.parse().ok()?;
    let entry = |word: &str| {
        let (entry, number) = word.split_once(':')?;
        Some((entry.parse().ok()?, number.parse().ok()?))
    };
    Some((name, words.map(entry).collect::<Option<_>>()?))
}

/// What a read shows, as the checkers know it; a value that no client wrote is named 0.
pub(super) fn left_of(got: &Got) -> Left {
    let mut left = Left::default();
    let mut add = |bytes: &[u8]| {
        let (name, entries) = parse(bytes).unwrap_or_default();
        left.shown.push(name);
        for (entry, number) in entries {
            let known = left.entries.entry(entry).or_default();
            *known = number.max(*known);
        }
    };
    match got {
        Got::One(value) => add(&value.bytes),
        Got::Siblings(several) => {
            several.siblings.iter().filter_map(|s: &Sibling| s.bytes.as_ref()).for_each(|b| add(b))
        }
        Got::Deleted(_) | Got::Missing => {}
    }
    left
}

/// A client's token of a key, and the writes that it covers.
#[derive(Clone, Debug)]
struct Held {
    token: ContextToken,
    covers: Vec<Name>,
}

/// One client.
pub(super) struct Worker {
    client: Client,
    number: u32,
    keys: Keys,
    rng: Rng,
    book: Rc<Book>,
    held: BTreeMap<Key, Held>,
    /// When a request was last served.
    served_at: Cell<u64>,
    told: RefCell<Told>,
}

impl Worker {
    pub(super) fn new(
        number: u32,
        urls: &[String],
        keys: Keys,
        seed: u64,
        book: Rc<Book>,
    ) -> Result<Worker, Failure> {
        let class = if number.is_multiple_of(2) { Class::Loyal } else { Class::Roaming };
        let mut order = urls.to_vec();
        order.rotate_left(number as usize / 2 % urls.len());
        let options = Options { token: None, spread: class == Class::Roaming };
        let told = Told {
            class,
            writes: Vec::new(),
            reads: Vec::new(),
            served: 0,
            failed: Vec::new(),
            refused: 0,
            gap: (Duration::ZERO, 0),
            took: Vec::new(),
        };
        Ok(Worker {
            client: Client::without_asking(&order, options)?,
            number,
            keys,
            rng: Rng::new(seed ^ (u64::from(keys.round) << 32) ^ u64::from(number)),
            served_at: Cell::new(book.now()),
            book,
            held: BTreeMap::new(),
            told: RefCell::new(told),
        })
    }

    /// Works until it is stopped.
    pub(super) async fn work(mut self) -> Told {
        while !self.book.stop.get() {
            self.step().await;
            if self.rng.below(4) == 0 {
                tokio::time::sleep(Duration::from_millis(self.rng.below(8).into())).await;
            }
        }
        // A gap that the end of the round cut short is a gap all the same.
        self.notice_gap();
        self.told.into_inner()
    }

    async fn step(&mut self) {
        match self.rng.below(100) {
            0..15 => {
                let key = self.keys.pick(Kind::Siblings, &mut self.rng);
                self.get(key, true).await;
            }
            15..35 => self.grow().await,
            35..60 => self.rewrite().await,
            60..72 => {
                let key = self.keys.pick(Kind::Siblings, &mut self.rng);
                self.put(key, Kind::Siblings, None, None, BTreeMap::new()).await;
            }
            72..82 => {
                let key = self.keys.pick(Kind::Siblings, &mut self.rng);
                if self.get(key, false).await {
                    let held = self.held.get(&key).cloned();
                    if held.is_some() {
                        self.delete(key, held).await;
                    }
                }
            }
            82..86 => {
                let key = self.keys.pick(Kind::Siblings, &mut self.rng);
                self.delete(key, None).await;
            }
            _ => {
                let key = self.keys.pick(Kind::Last, &mut self.rng);
                self.put(key, Kind::Last, None, None, BTreeMap::new()).await;
            }
        }
    }

    /// Reads, joins and adds one entry: a set's next element or the client's own counter.
    async fn grow(&mut self) {
        let key = self.keys.pick(Kind::Growing, &mut self.rng);
        let Some((held, left)) = self.read(key, false).await else { return };
        let mut entries = left.entries;
        let counts = key.is_multiple_of(2);
        let adds = if counts {
            let own = entries.get(&u64::from(self.number)).copied().unwrap_or_default() + 1;
            (u64::from(self.number), own)
        } else {
            (self.book.names.get() + 1, 1)
        };
        entries.insert(adds.0, adds.1);
        self.put(key, Kind::Growing, held, Some(adds), entries).await;
    }

    /// A put on top of what is there, as a rule; sometimes on top of what the client held from before.
    async fn rewrite(&mut self) {
        let key = self.keys.pick(Kind::Siblings, &mut self.rng);
        if (self.rng.below(4) > 0 || !self.held.contains_key(&key)) && !self.get(key, false).await {
            return;
        }
        let held = self.held.get(&key).cloned();
        self.put(key, Kind::Siblings, held, None, BTreeMap::new()).await;
    }

    async fn get(&mut self, key: Key, with_token: bool) -> bool {
        match self.read(key, with_token).await {
            Some((Some(held), _)) => {
                self.held.insert(key, held);
                true
            }
            Some((None, _)) => {
                self.held.remove(&key);
                true
            }
            None => false,
        }
    }

    async fn read(&mut self, key: Key, with_token: bool) -> Option<(Option<Held>, Left)> {
        let (bucket, name) = place(key);
        let min = self.held.get(&key).filter(|_| with_token).cloned();
        let ask =
            gramme_client::Read { min: min.as_ref().map(|held| held.token.clone()), ..Default::default() };
        let invoked = self.book.now();
        let answer = self.client.get_with(bucket, name.as_bytes(), &ask).await;
        let got = self.served(invoked, "GET", key, answer)?.0;
        let left = left_of(&got);
        let held = got.context().map(|token| Held { token: token.clone(), covers: left.shown.clone() });
        self.told.borrow_mut().reads.push(Read {
            client: self.number,
            key,
            invoked,
            returned: self.book.now(),
            after: min.map(|held| held.covers).unwrap_or_default(),
            shown: left.shown.clone(),
        });
        Some((held, left))
    }

    async fn put(
        &mut self,
        key: Key,
        kind: Kind,
        held: Option<Held>,
        adds: Option<(u64, u64)>,
        entries: BTreeMap<u64, u64>,
    ) {
        let (bucket, at) = place(key);
        let name = self.book.name();
        let mut value = name.to_string();
        for (entry, number) in &entries {
            value.push_str(&format!(" {entry}:{number}"));
        }
        let ask = gramme_client::Write {
            context: held.as_ref().map(|held| held.token.clone()),
            ..Default::default()
        };
        let mut covers = held.map(|held| held.covers).unwrap_or_default();
        let effect = if kind == Kind::Last { Effect::Supersedes } else { Effect::Replaces(covers.clone()) };
        let invoked = self.book.now();
        let answer = self.client.put_with(bucket, at.as_bytes(), value, &ask).await;
        let (outcome, left_behind) = match &answer {
            Ok(written) => (Outcome::Applied, written.via.retried),
            Err(error) => (error.outcome(), true),
        };
        self.note(Write {
            name,
            client: self.number,
            key,
            kind,
            deletes: false,
            effect,
            adds,
            invoked,
            returned: self.book.now(),
            outcome,
            left_behind,
        });
        if let Some(written) = self.served(invoked, "PUT", key, answer) {
            covers.push(name);
            self.held.insert(key, Held { token: written.context, covers });
        }
    }

    async fn delete(&mut self, key: Key, held: Option<Held>) {
        let (bucket, at) = place(key);
        let name = self.book.name();
        let ask = gramme_client::Write {
            context: held.as_ref().map(|held| held.token.clone()),
            ..Default::default()
        };
        let effect = match &held {
            Some(held) => Effect::Replaces(held.covers.clone()),
            None => Effect::Supersedes,
        };
        let invoked = self.book.now();
        let answer = self.client.delete(bucket, at.as_bytes(), &ask).await;
        let (outcome, left_behind) = match &answer {
            Ok(Some(written)) => (Outcome::Applied, written.via.retried),
            // There was nothing to delete; an attempt that was left behind may have found something.
            Ok(None) => (Outcome::MaybeApplied, true),
            Err(error) => (error.outcome(), true),
        };
        self.note(Write {
            name,
            client: self.number,
            key,
            kind: Kind::Siblings,
            deletes: true,
            effect,
            adds: None,
            invoked,
            returned: self.book.now(),
            outcome,
            left_behind,
        });
        self.held.remove(&key);
        if let (Some(Some(written)), Some(held)) = (self.served(invoked, "DELETE", key, answer), held) {
            let mut covers = held.covers;
            covers.push(name);
            self.held.insert(key, Held { token: written.context, covers });
        }
    }

    fn note(&self, write: Write) {
        self.told.borrow_mut().writes.push(write);
    }

    fn served<T>(&self, invoked: u64, what: &str, key: Key, answer: Result<T, Error>) -> Option<T> {
        let now = self.book.now();
        match answer {
            Ok(answer) => {
                self.notice_gap();
                self.served_at.set(now);
                let mut told = self.told.borrow_mut();
                told.served += 1;
                told.took.push((now - invoked).min(u32::MAX.into()) as u32);
                Some(answer)
            }
            Err(error) if error.is_retryable() => {
                let said = format!("{what} {} at {} ms: {error}", place(key).1, invoked / 1000);
                self.told.borrow_mut().failed.push(said);
                None
            }
            Err(_) => {
                // The store answered, and at once.
                self.notice_gap();
                self.served_at.set(now);
                self.told.borrow_mut().refused += 1;
                None
            }
        }
    }

    fn notice_gap(&self) {
        let (since, now) = (self.served_at.get(), self.book.now());
        let gap = Duration::from_micros(now - since);
        let mut told = self.told.borrow_mut();
        if gap > told.gap.0 {
            told.gap = (gap, since);
        }
    }
}

/// Chance that is the same for the same seed (splitmix64).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x6772_616d_6d65)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % u64::from(end)) as u32
    }
}

const GROWING: u32 = 4;
const LAST: u32 = 4;
const HOT: u32 = 4;
/// Where the cold keys of a round begin.
const COLD: u32 = GROWING + LAST + HOT;
const KEYS_PER_ROUND: u32 = 1 << 20;
