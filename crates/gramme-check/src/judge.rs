//! The rules, by the names of correctness.md section 10.
//!
//! * **K1, lost**: an acknowledged write is there in the end, or was replaced by one whose client had been shown
//!   it, and that is there or was replaced in turn, or is a delete. "Replaced by something that vanished" is a loss.
//! * **K2, resurrected**: in the end nothing is shown that an acknowledged write replaced.
//! * **K3, unseen**: a read with a token shows nothing that the token's own writes replaced.
//! * **K6, phantom**: nothing is shown that nobody wrote, that was refused, or twice.
//! * **Late ghosts**: a write whose client was told, or gave up, does nothing to what others wrote afterwards.
//!   A node that was frozen and takes a write that lay in its sockets makes one.
//! * **Shrunk**: a map that only grows has every entry that was acknowledged.

use crate::history::{Effect, History, Key, Kind, Left, Name, Read, Write};
use std::collections::{BTreeMap, BTreeSet};

/// Which promise was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// K1.
    Lost,
    /// K2.
    Resurrected,
    /// K3.
    Unseen,
    /// K6.
    Phantom,
    /// A write had an effect after its client had gone on.
    LateGhost,
    /// An entry of a growing map is gone.
    Shrunk,
}

impl Promise {
    /// In one word, for tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Promise::Lost => "lost",
            Promise::Resurrected => "resurrected",
            Promise::Unseen => "unseen",
            Promise::Phantom => "phantom",
            Promise::LateGhost => "late ghost",
            Promise::Shrunk => "shrunk",
        }
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// Of which key.
    pub key: Key,
    /// What happened, in a sentence with names and times.
    pub what: String,
}

/// Every broken promise. Deletes and puts without a context may take effect for `grace` microseconds after their
/// client gave up on an attempt: servers finish what they have begun until its deadline.
pub fn judge(history: &History, grace: u64) -> Vec<Violation> {
    let mut of_key: BTreeMap<Key, OfKey<'_>> = BTreeMap::new();
    for write in &history.writes {
        of_key.entry(write.key).or_default().writes.insert(write.name, write);
    }
    for read in &history.reads {
        of_key.entry(read.key).or_default().reads.push(read);
    }
    let nothing = Left::default();
    let keys: BTreeSet<Key> = of_key.keys().chain(history.left.keys()).copied().collect();
    let none = OfKey::default();
    let mut violations = Vec::new();
    for key in keys {
        let of = of_key.get(&key).unwrap_or(&none);
        let left = history.left.get(&key).unwrap_or(&nothing);
        let mut say = |promise, what| violations.push(Violation { promise, key, what });
        of.phantoms(left, &mut say);
        match of.kind() {
            Some(Kind::Last) => of.last_writer(left, &mut say),
            Some(Kind::Siblings | Kind::Growing) => {
                of.lost(left, grace, &mut say);
                of.resurrected(left, &mut say);
                of.unseen(&mut say);
                of.shrunk(left, &mut say);
            }
            None => {}
        }
    }
    violations
}

#[derive(Default)]
struct OfKey<'a> {
    writes: BTreeMap<Name, &'a Write>,
    reads: Vec<&'a Read>,
}

impl OfKey<'_> {
    fn kind(&self) -> Option<Kind> {
        self.writes.values().next().map(|write| write.kind)
    }

    fn phantoms(&self, left: &Left, say: &mut impl FnMut(Promise, String)) {
        let mut once = BTreeSet::new();
        for name in &left.shown {
            if !once.insert(name) {
                say(Promise::Phantom, format!("in the end write {name} is shown twice"));
            }
        }
        let read = self.reads.iter().flat_map(|read| read.shown.iter().map(|name| (name, read.returned)));
        for (name, at) in left.shown.iter().map(|name| (name, u64::MAX)).chain(read) {
            let when =
                if at == u64::MAX { "in the end".to_string() } else { format!("a read at {} ms", at / 1000) };
            match self.writes.get(name) {
                None => say(Promise::Phantom, format!("{when} shows {name}, which nobody wrote here")),
                Some(write) if !write.may_exist() => {
                    say(Promise::Phantom, format!("{when} shows {}, which was refused", tell(write)));
                }
                Some(write) if write.invoked > at => {
                    say(Promise::Phantom, format!("{when} shows {} before it was begun", tell(write)));
                }
                Some(_) => {}
            }
        }
    }

    fn lost(&self, left: &Left, grace: u64, say: &mut impl FnMut(Promise, String)) {
        // From those that are there, and deletes, to those that they replaced, and so on to the first.
        let mut accounted: BTreeSet<Name> = left.shown.iter().copied().collect();
        let mut next: Vec<&Write> = self
            .writes
            .values()
            .filter(|write| write.may_exist() && (write.deletes || accounted.contains(&write.name)))
            .copied()
            .collect();
        while let Some(by) = next.pop() {
            if let Effect::Replaces(names) = &by.effect {
                for name in names {
                    if accounted.insert(*name) {
                        next.extend(self.writes.get(name).filter(|write| write.may_exist()));
                    }
                }
            }
        }
        // A delete without a context replaces what is there while it is under way, and what that had replaced.
        let superseders: Vec<&Write> = self
            .writes
            .values()
            .filter(|by| by.may_exist() && by.effect == Effect::Supersedes)
            .copied()
            .collect();
        let may_take_until = |by: &Write| by.returned + if by.left_behind { grace } else { 0 };
        let mut excused: Vec<&Write> = self
            .writes
            .values()
            .filter(|write| {
                let in_time = |by: &&Write| write.invoked <= may_take_until(by) && by.name != write.name;
                !accounted.contains(&write.name) && write.may_exist() && superseders.iter().any(in_time)
            })
            .copied()
            .collect();
        while let Some(write) = excused.pop() {
            if accounted.insert(write.name)
                && let Effect::Replaces(names) = &write.effect
            {
                let more = names.iter().filter_map(|name| self.writes.get(name));
                excused.extend(more.filter(|write| !accounted.contains(&write.name)));
            }
        }
        for write in self.writes.values().filter(|write| write.is_acknowledged() && !write.deletes) {
            if accounted.contains(&write.name) {
                continue;
            }
            let late = superseders.iter().find(|by| by.left_behind && by.invoked < write.invoked);
            let shown = &left.shown;
            match late {
                Some(by) => say(
                    Promise::LateGhost,
                    format!(
                        "{} is gone, and only {} could have taken it; left is {shown:?}",
                        tell(write),
                        tell(by)
                    ),
                ),
                None => say(
                    Promise::Lost,
                    format!("{} is neither there nor replaced; left is {shown:?}", tell(write)),
                ),
            }
        }
    }

    fn resurrected(&self, left: &Left, say: &mut impl FnMut(Promise, String)) {
        for name in &left.shown {
            let replaced = self.writes.values().find(|by| by.is_acknowledged() && by.replaces(*name));
            if let (Some(by), Some(write)) = (replaced, self.writes.get(name)) {
                // An attempt that was left behind and lands twice is the other way in which the dead return.
                let promise = if write.left_behind { Promise::LateGhost } else { Promise::Resurrected };
                say(promise, format!("in the end {} is there, which {} had replaced", tell(write), tell(by)));
            }
        }
    }

    fn unseen(&self, say: &mut impl FnMut(Promise, String)) {
        for read in &self.reads {
            for by in read.after.iter().filter_map(|name| self.writes.get(name)) {
                if let Some(back) = read.shown.iter().find(|name| by.is_acknowledged() && by.replaces(**name))
                {
                    say(
                        Promise::Unseen,
                        format!(
                            "client {} read at {} ms with a token that had seen {}, and was shown {back}",
                            read.client,
                            read.invoked / 1000,
                            tell(by)
                        ),
                    );
                }
            }
        }
    }

    fn shrunk(&self, left: &Left, say: &mut impl FnMut(Promise, String)) {
        for write in self.writes.values().filter(|write| write.is_acknowledged()) {
            if let Some((entry, number)) = write.adds
                && left.entries.get(&entry).is_none_or(|found| *found < number)
            {
                say(
                    Promise::Shrunk,
                    format!("{} added {entry}: {number}, and it is not among what is left", tell(write)),
                );
            }
        }
    }

    /// Who wins is who began last, within what ran side by side.
    fn last_writer(&self, left: &Left, say: &mut impl FnMut(Promise, String)) {
        let acknowledged = || self.writes.values().filter(|write| write.is_acknowledged());
        if left.shown.is_empty()
            && let Some(write) = acknowledged().next()
        {
            say(Promise::Lost, format!("{} is gone, and nobody deletes here", tell(write)));
        }
        for winner in left.shown.iter().filter_map(|name| self.writes.get(name)) {
            if let Some(newer) = acknowledged().find(|newer| newer.invoked > winner.returned) {
                let promise = if winner.left_behind { Promise::LateGhost } else { Promise::Lost };
                say(
                    promise,
                    format!("in the end {} wins over {}, which began later", tell(winner), tell(newer)),
                );
            }
        }
    }
}

fn tell(write: &Write) -> String {
    format!(
        "{} {} by client {} ({} to {} ms, {}{})",
        if write.deletes { "delete" } else { "write" },
        write.name,
        write.client,
        write.invoked / 1000,
        write.returned / 1000,
        write.outcome,
        if write.left_behind { ", an attempt left behind" } else { "" },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::Outcome;

    fn write(name: Name, replaces: &[Name]) -> Write {
        Write {
            name,
            client: 0,
            key: 0,
            kind: Kind::Siblings,
            deletes: false,
            effect: Effect::Replaces(replaces.to_vec()),
            adds: None,
            invoked: name * 100,
            returned: name * 100 + 50,
            outcome: Outcome::Applied,
            left_behind: false,
        }
    }

    fn delete(name: Name, replaces: &[Name]) -> Write {
        Write { deletes: true, ..write(name, replaces) }
    }

    fn broken(writes: Vec<Write>, shown: &[Name]) -> Vec<Promise> {
        let left = Left { shown: shown.to_vec(), entries: BTreeMap::new() };
        let history = History { writes, reads: Vec::new(), left: BTreeMap::from([(0, left)]) };
        judge(&history, 1000).into_iter().map(|violation| violation.promise).collect()
    }

    #[test]
    fn what_is_there_or_was_replaced_by_what_is_there_is_kept() {
        assert_eq!(broken(vec![write(1, &[]), write(2, &[1]), write(3, &[])], &[2, 3]), []);
        assert_eq!(broken(vec![write(1, &[]), delete(2, &[1])], &[]), []);
    }

    #[test]
    fn what_is_gone_or_was_replaced_by_what_vanished_is_lost() {
        assert_eq!(broken(vec![write(1, &[]), write(2, &[])], &[1]), [Promise::Lost]);
        assert_eq!(broken(vec![write(1, &[]), write(2, &[1])], &[]), [Promise::Lost, Promise::Lost]);
    }

    #[test]
    fn a_write_in_doubt_may_be_there_or_not_and_may_have_replaced_what_it_had_seen() {
        let doubt = || Write { outcome: Outcome::MaybeApplied, ..write(2, &[1]) };
        for shown in [&[1][..], &[2]] {
            assert_eq!(broken(vec![write(1, &[]), doubt()], shown), []);
        }
        assert_eq!(broken(vec![write(1, &[]), doubt(), write(3, &[2])], &[3]), []);
    }

    #[test]
    fn what_was_replaced_does_not_return() {
        assert_eq!(broken(vec![write(1, &[]), write(2, &[1])], &[1, 2]), [Promise::Resurrected]);
        assert_eq!(broken(vec![write(1, &[]), delete(2, &[1])], &[1]), [Promise::Resurrected]);
    }

    #[test]
    fn nobody_is_shown_what_was_refused_or_never_written_or_twice() {
        let refused = Write { outcome: Outcome::NotApplied, ..write(1, &[]) };
        assert_eq!(broken(vec![refused], &[1]), [Promise::Phantom]);
        assert_eq!(broken(vec![], &[7]), [Promise::Phantom]);
        assert_eq!(broken(vec![write(1, &[])], &[1, 1]), [Promise::Phantom]);
    }

    #[test]
    fn a_delete_without_a_context_takes_what_was_there_in_its_time_and_nothing_later() {
        let blind = || Write { effect: Effect::Supersedes, ..delete(2, &[]) };
        assert_eq!(broken(vec![write(1, &[]), blind()], &[]), []);
        assert_eq!(broken(vec![blind(), write(3, &[])], &[]), [Promise::Lost]);
        let frozen = || Write { left_behind: true, ..blind() };
        assert_eq!(broken(vec![frozen(), write(3, &[])], &[]), [], "a deadline may not have passed");
        assert_eq!(broken(vec![frozen(), write(20, &[])], &[]), [Promise::LateGhost]);
    }

    #[test]
    fn the_last_writer_wins_and_no_earlier_one() {
        let last = |name| Write { kind: Kind::Last, effect: Effect::Supersedes, ..write(name, &[]) };
        let side_by_side = Write { returned: 250, ..last(1) };
        assert_eq!(broken(vec![last(1), last(2)], &[2]), []);
        assert_eq!(broken(vec![side_by_side, last(2)], &[1]), []);
        assert_eq!(broken(vec![last(1), last(2)], &[1]), [Promise::Lost]);
        let frozen = Write { left_behind: true, ..last(1) };
        assert_eq!(broken(vec![frozen, last(2)], &[1]), [Promise::LateGhost]);
        assert_eq!(broken(vec![last(1)], &[]), [Promise::Lost]);
    }

    #[test]
    fn a_growing_map_keeps_every_entry_that_was_acknowledged() {
        let add = |name, replaces: &[Name]| Write {
            kind: Kind::Growing,
            adds: Some((name, 1)),
            ..write(name, replaces)
        };
        let left = Left { shown: vec![2], entries: BTreeMap::from([(2, 1)]) };
        let writes = vec![add(1, &[]), add(2, &[1])];
        let history = History { writes, reads: Vec::new(), left: BTreeMap::from([(0, left)]) };
        let told = judge(&history, 0);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].promise, Promise::Shrunk, "covered, and yet its entry is gone: {told:?}");
    }

    #[test]
    fn a_reader_is_not_shown_what_its_own_token_had_replaced() {
        let read = Read { client: 1, key: 0, invoked: 300, returned: 310, after: vec![2], shown: vec![1] };
        let left = BTreeMap::from([(0, Left { shown: vec![2], ..Left::default() })]);
        let history = History { writes: vec![write(1, &[]), write(2, &[1])], reads: vec![read], left };
        assert_eq!(judge(&history, 0)[0].promise, Promise::Unseen);
    }
}
