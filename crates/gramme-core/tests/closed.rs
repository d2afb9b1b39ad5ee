//! Ends of incarnations: which sets may be final, what is void, and that no two sets are accepted by all
//! (correctness.md 2.4).

mod common;

use common::{dot, sibling};
use gramme_core::closed::{Closed, agreed, bases, holds_back, read_closed, union, write_closed};
use gramme_core::codec::{Reader, Writer};
use gramme_core::seen::SeenRow;
use gramme_core::{Context, Frontier, Incarnation, Record, Seen};

const LIFE: Incarnation = Incarnation(7);

fn row(numbers: &[u64]) -> SeenRow {
    SeenRow::from_runs(numbers.iter().map(|&n| (n - 1, n)))
}

fn value(incarnation: u64, n: u64) -> Record {
    Record::new().put(&Context::blind(), sibling(dot(incarnation, n), u128::from(n), "v"))
}

#[test]
fn a_life_with_holes_holds_the_frontier_back() {
    assert!(holds_back([&row(&[1, 2]), &row(&[1, 3])]));
    assert!(!holds_back([&row(&[1, 2]), &row(&[1, 2])]));
    assert!(!holds_back([&row(&[])]));
}

#[test]
fn a_set_is_agreed_once_all_homes_have_it_and_nobody_has_more() {
    let homes = [row(&[1, 3]), row(&[1, 3])];
    assert_eq!(agreed(&homes, &[row(&[3])]), Some(row(&[1, 3])));
    assert_eq!(agreed(&homes, &[row(&[4])]), None, "a hint holder has seen more: it must hand over first");
    assert_eq!(agreed(&[row(&[1]), row(&[1, 3])], &[]), None);
    assert_eq!(union([&row(&[1]), &row(&[3])]), row(&[1, 3]));
}

#[test]
fn a_state_with_a_void_dot_is_refused_whole() {
    let mut closed = Closed::new();
    assert!(closed.freeze(LIFE, &row(&[1, 3]), &row(&[1])));
    assert!(closed.admit(&value(7, 3)).is_some(), "unseen, but in the set");
    assert!(closed.admit(&value(8, 2)).is_some(), "of another life");
    let both = value(7, 2).join(&value(8, 2));
    assert!(closed.admit(&both).is_none(), "the rest would keep the void write's effect on the clock");
}

#[test]
fn a_frozen_set_grows_and_a_closed_one_does_not_change() {
    let mut closed = Closed::new();
    assert!(!closed.freeze(LIFE, &row(&[1]), &row(&[1, 3])), "it lacks what was seen");
    assert!(closed.freeze(LIFE, &row(&[1, 3]), &row(&[1])));
    assert!(!closed.freeze(LIFE, &row(&[1]), &row(&[1])), "it lacks what is frozen");
    assert!(closed.freeze(LIFE, &row(&[1, 3, 5]), &row(&[1, 3])));
    assert!(!closed.close(LIFE, &row(&[1, 3])), "another set is frozen");
    assert!(closed.close(LIFE, &row(&[1, 3, 5])));
    assert!(closed.close(LIFE, &row(&[1, 3, 5])), "a crash repeats it");
    assert!(closed.freeze(LIFE, &row(&[1, 3, 5]), &row(&[1, 3, 5])), "a late freeze of the same set");
    assert!(!closed.freeze(LIFE, &row(&[1, 2, 3, 5]), &row(&[1])));
    assert!(closed.is_closed(LIFE));
}

#[test]
fn no_two_sets_are_accepted_by_all() {
    // Four nodes; drivers propose what they collected at different moments, in any order, while dots arrive.
    for seed in 1..=3000u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut below = |bound: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % bound
        };
        let mut nodes: Vec<(Closed, SeenRow)> = vec![(Closed::new(), row(&[1])); 4];
        let mut proposals: Vec<(SeenRow, Vec<bool>)> = Vec::new();
        for _ in 0..80 {
            match below(6) {
                0 => proposals.push((union(nodes.iter().map(|(_, seen)| seen)), vec![false; 4])),
                1 => {
                    let (at, n) = (below(4) as usize, 1 + below(6));
                    let (closed, seen) = &mut nodes[at];
                    if seen.has(n) || !closed.is_void(dot(LIFE.0, n)) {
                        seen.add(n - 1, n);
                    }
                }
                _ if proposals.is_empty() => {}
                _ => {
                    let which = below(proposals.len() as u64) as usize;
                    let at = below(4) as usize;
                    let (set, accepted) = &mut proposals[which];
                    let (closed, seen) = &mut nodes[at];
                    accepted[at] |= closed.freeze(LIFE, set, seen);
                }
            }
        }
        let mut unanimous: Vec<&SeenRow> =
            proposals.iter().filter(|(_, by)| by.iter().all(|&yes| yes)).map(|(set, _)| set).collect();
        unanimous.dedup();
        assert!(unanimous.windows(2).all(|pair| pair[0] == pair[1]), "seed {seed}: {unanimous:?}");
    }
}

#[test]
fn the_holes_of_a_closed_life_count_as_seen_once_its_set_is_here() {
    let mut closed = Closed::new();
    let mut seen = Seen::new();
    seen.set_row(LIFE, row(&[1, 3]));
    assert_eq!(bases(&seen, &closed), Frontier::from_bases([(LIFE, 1)]));
    assert!(closed.freeze(LIFE, &row(&[1, 3, 5]), &row(&[1, 3])));
    assert_eq!(bases(&seen, &closed), Frontier::from_bases([(LIFE, 1)]), "frozen is not closed");
    assert!(closed.close(LIFE, &row(&[1, 3, 5])));
    assert_eq!(bases(&seen, &closed), Frontier::from_bases([(LIFE, 1)]), "a refilled home lacks one");
    seen.add(dot(LIFE.0, 5));
    assert_eq!(
        bases(&seen, &closed),
        Frontier::from_bases([(LIFE, u64::MAX)]),
        "nothing of it is left to see"
    );
}

#[test]
fn what_nobody_has_seen_and_a_clock_names_can_be_closed_too() {
    let nothing = SeenRow::default();
    assert_eq!(agreed([&nothing, &nothing], [&nothing]), Some(nothing.clone()));
    assert_eq!(agreed([&nothing, &nothing], [&row(&[1])]), None, "a hint store has it");
    let mut closed = Closed::new();
    assert!(closed.freeze(LIFE, &nothing, &nothing));
    assert!(bases(&Seen::new(), &closed).is_none());
    assert!(closed.close(LIFE, &nothing));
    assert_eq!(bases(&Seen::new(), &closed), Frontier::from_bases([(LIFE, u64::MAX)]));
}

#[test]
fn it_reads_as_it_was_written_and_its_digest_is_of_what_is_final() {
    let mut closed = Closed::new();
    assert!(closed.freeze(LIFE, &row(&[1, 3]), &row(&[1])));
    assert_eq!((closed.digest(), closed.finals().is_empty()), (0, true), "frozen is not final");
    assert!(closed.close(LIFE, &row(&[1, 3])));
    let alone = closed.digest();
    assert_ne!(alone, 0);
    assert!(closed.freeze(Incarnation(LIFE.0 + 1), &row(&[2]), &row(&[])));
    assert_eq!(closed.digest(), alone);
    assert_eq!(closed.finals().ends().count(), 1);
    let mut w = Writer::new();
    write_closed(&mut w, &closed);
    let bytes = w.into_bytes();
    assert_eq!(read_closed(&mut Reader::new(&bytes)), Ok(closed));
    for cut in 0..bytes.len() {
        assert!(read_closed(&mut Reader::new(&bytes[..cut])).is_err(), "cut at {cut}");
    }
}
