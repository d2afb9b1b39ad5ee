//! Coordinators that forget (U4): riak_kv#679 and its five relatives, and the shapes of the counter-examples
//! that its property tests kept. In each, a coordinator loses a key and writes it again; in Riak the new
//! write repeated an old name or claimed an old one's past, and an acknowledged value vanished.
//!
//! Each case is a script over the replicas `a b c` and the fallback `f`:
//! `a+` a blind put at a, `a~` a put at a of a client that has just read a, `a-` a delete of such a client,
//! `a>b` a's record reaches b, `a!` a loses the key and does not know, `a^` a starts a new life, `a=` what a
//! has is put aside as a backup and `a<` is put back in place of what a has.
//! Afterwards everybody's record reaches everybody else in every order.

mod common;

use common::{Replica, cases, dot};
use gramme_core::{Clock, Context, Dot, Record};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn kv679_dataloss() {
    survives("a+ a>b a>c a~ a>b a>c a! a+ a>b", &["1", "2"]);
    survives("a+ a>b a~ a>b a~ a>b a>c a! a+ a+ a>b", &["2", "3", "4"]);
    survives("a+ a>b a>c a! a^ a+ a>b", &["0", "1"]);
    // The client of the last write has read the survivors, so nothing else may be left.
    survives("a+ a>b a>c a~ a>b a>c a! b>a a~ a>c", &["2"]);
}

#[test]
fn kv679_dataloss_fb() {
    // c is down, f stands in and keeps an old copy; a restarts without the key; f repairs a; a writes again.
    survives("a+ a>b a>f a~ a>b a>c a! a^ f>a a+ a>b", &["1", "2"]);
    survives("a+ a>f a~ a>b a>c a! a^ f>a a~ a>f", &["1", "2"]);
}

#[test]
fn kv679_dataloss_fb2() {
    // The same in one life of a: the old copy arrives as a handoff while a does not know its loss.
    survives("a+ a>b a>f a~ a>b a>c a! f>a a+ a>b", &["1", "2"]);
    survives("a+ a>f a~ a>b a>c a~ a>b a>c a! f>a a+ f>a a+ a>b", &["2", "3", "4"]);
}

#[test]
fn kv679_tombstone() {
    // Deleted while f stands in for c; the tombstone is reclaimed at a and b; the key is made again; then
    // f hands its tombstone over: it may not bury the new value.
    survives("a+ a>b a>c a- a>b a>f a! b! a+ a>b f>a f>b", &["2"]);
    survives("a+ a>b a>c a- a>b a>f a! b! f>a a+ a>b f>b", &["2"]);
    survives("a+ a>b a>c a- a>b a>f a! b! b+ b>a f>a f>b", &["2"]);
}

#[test]
fn kv679_tombstone2() {
    // The crashed home c comes back with the deleted value: the tombstone still buries that, and only that.
    survives("a+ a>b a>c a- a>b a>f a! b! a+ a>b c^ c>a f>a c>b", &["2"]);
    survives("a+ a>b a>c a- a>b a>f a! b! c^ c>a a+ a>b f>a", &["2"]);
    survives("a+ a>b a>c a- a>b a>f a! b! f>a c^ c>b a+ a>b", &["2"]);
}

#[test]
fn kv679_uid() {
    // Two lives from one directory: the copy and the original write without knowing of each other.
    survives("a+ a>b a= a^ a+ a>b a< a^ a+ a>c", &["0", "1", "2"]);
    survives("a+ a= a~ a>b a>c a< a^ a~ a>b", &["1", "2"]);
}

#[test]
fn kv679_eqc_the_fallback_lies() {
    survives("a+ a>f f>b a! b>a a+ f>a a>c", &["0", "1"]);
    survives("a+ a>b a! a+ a>f b>a a~ f>a a>b", &["2"]);
    survives("a+ a>b a>f a! f>a a! a+ a>c b>a a+ a>b", &["0", "1", "2"]);
}

#[test]
fn kv679_eqc_forget_twice() {
    survives("a+ a>b a! a+ a>b a! a+ a>c", &["0", "1", "2"]);
    survives("a+ a>b a~ a>c a! c>a a! a+ a>c", &["1", "2"]);
}

#[test]
fn kv679_eqc_an_old_backup_writes_on() {
    survives("a+ a= a~ a>b a~ a>c a< a^ a+ a>b", &["2", "3"]);
    survives("a+ a>b a= a~ a>c a< a^ b>a a~ a>b", &["1", "2"]);
}

proptest! {
    #![proptest_config(cases(1500))]

    /// One replica loses the key and starts anew, at any time; every write that two replicas had by then, or
    /// that two have afterwards, survives.
    #[test]
    fn one_loss_that_is_noticed_loses_nothing(before in script(), loser in 0..4usize, after in script()) {
        let name = ["a", "b", "c", "f"][loser];
        check(&format!("{before} {name}! {name}^ {after}"), 2);
    }

    #[test]
    fn no_loss_loses_nothing_even_of_what_one_replica_alone_has(script in script()) {
        check(&script, 1);
    }
}

/// Random scripts without losses.
fn script() -> impl Strategy<Value = String> {
    let name = || prop_oneof![3 => Just("a"), 1 => Just("b"), 1 => Just("c"), 1 => Just("f")];
    let step = prop_oneof![
        4 => (name(), prop_oneof![Just("+"), Just("~"), Just("-")]).prop_map(|(at, what)| format!("{at}{what}")),
        5 => (name(), name()).prop_map(|(from, to)| format!("{from}>{to}")),
        1 => name().prop_map(|at| format!("{at}^")),
    ];
    proptest::collection::vec(step, 0..14).prop_map(|steps| steps.join(" "))
}

/// A write, and what its client had seen.
struct Write {
    dot: Dot,
    seen: Clock,
    holders: BTreeSet<usize>,
}

#[derive(Default)]
struct World {
    replicas: Vec<Replica>,
    backups: Vec<Record>,
    writes: Vec<Write>,
}

impl World {
    fn play(script: &str) -> World {
        let mut world = World {
            replicas: (1..=4).map(Replica::new).collect(),
            backups: vec![Record::new(); 4],
            ..World::default()
        };
        for step in script.split_whitespace() {
            world.step(step.as_bytes());
        }
        world
    }

    fn step(&mut self, step: &[u8]) {
        let index = |name: u8| b"abcf".iter().position(|&n| n == name).expect("a replica's name");
        let at = index(step[0]);
        match step[1] {
            b'+' => self.write(at, Context::blind(), false),
            b'~' => self.write(at, self.replicas[at].read(), false),
            b'-' => self.write(at, self.replicas[at].read(), true),
            b'>' => self.deliver(at, index(step[2])),
            b'!' => drop(self.replicas[at].forget()),
            b'^' => self.replicas[at].restart(),
            b'=' => self.backups[at] = self.replicas[at].record.clone(),
            b'<' => self.replicas[at].record = self.backups[at].clone(),
            other => panic!("no such step: {}", other as char),
        }
        for write in &mut self.writes {
            write.holders.extend((0..4).filter(|&i| self.replicas[i].record.clock.covers(write.dot)));
        }
    }

    fn write(&mut self, at: usize, seen: Context, delete: bool) {
        let replica = &mut self.replicas[at];
        match delete {
            true => replica.delete(&seen),
            false => replica.put(&seen, &self.writes.len().to_string()),
        };
        let dot = dot(replica.incarnation, replica.n);
        assert!(self.writes.iter().all(|w| w.dot != dot), "the dot {dot} names two writes");
        self.writes.push(Write { dot, seen: seen.clock, holders: BTreeSet::from([at]) });
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let record = self.replicas[from].record.clone();
        self.replicas[to].receive(&record);
    }

    /// Everybody's record reaches everybody else, beginning with these deliveries.
    fn settle(&mut self, order: &[(usize, usize)]) {
        for &(from, to) in order.iter().chain(order) {
            self.deliver(from, to);
        }
    }

    /// Whether a write is visible, or was overwritten by one whose client had seen it and which is itself in
    /// the past of what is left.
    fn accounted(&self, write: &Write) -> bool {
        let record = &self.replicas[0].record;
        record.sibling(write.dot).is_some()
            || self.writes.iter().any(|by| by.seen.covers(write.dot) && record.clock.covers(by.dot))
    }
}

/// All the orders, or as many as a test has time for, in which twelve deliveries can begin.
fn orders() -> impl Iterator<Item = Vec<(usize, usize)>> {
    let pairs: Vec<(usize, usize)> =
        (0..4).flat_map(|from| (0..4).map(move |to| (from, to))).filter(|(from, to)| from != to).collect();
    (0..pairs.len()).flat_map(move |turn| {
        let mut forth = pairs.clone();
        forth.rotate_left(turn);
        let back: Vec<_> = forth.iter().rev().copied().collect();
        [forth, back]
    })
}

/// Plays a script, settles in every order, and checks that every write that `copies` replicas had is there.
fn check(script: &str, copies: usize) -> Vec<String> {
    let mut outcomes = BTreeSet::new();
    for order in orders() {
        let mut world = World::play(script);
        world.settle(&order);
        for (number, write) in world.writes.iter().enumerate() {
            assert!(
                write.holders.len() < copies || world.accounted(write),
                "write {number} ({}) is lost: {script}, settled as {order:?}",
                write.dot
            );
        }
        for replica in &world.replicas {
            let dots = |r: &Replica| r.record.siblings().iter().map(|s| s.dot).collect::<Vec<_>>();
            assert_eq!(dots(replica), dots(&world.replicas[0]), "all agree: {script}");
        }
        outcomes.insert(world.replicas[0].values());
    }
    assert_eq!(outcomes.len(), 1, "every order ends alike: {script}");
    outcomes.pop_first().expect("one outcome")
}

fn survives(script: &str, values: &[&str]) {
    assert_eq!(check(script, 2), values, "{script}");
}
