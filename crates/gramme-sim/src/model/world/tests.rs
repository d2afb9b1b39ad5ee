use super::*;

fn blind(key: usize) -> Held {
    Held { key, context: Rc::default(), past: Past::default(), of_put: false }
}

fn shown(world: &World<'_>, at: usize) -> Vec<usize> {
    let mut shown: Vec<usize> = writes_of(&world.nodes[at].live.records[0]).collect();
    shown.sort_unstable();
    shown
}

#[test]
fn a_partition_left_and_taken_back_within_one_process_life() {
    let mut world = World::new(1, None);
    world.write(0, &blind(0), false);
    let record = world.nodes[0].live.records[0].clone();
    world.merge(1, 0, &record, &Frontier::none());
    let before = world.nodes[0].live.incarnation;
    world.quarantine(0, None);
    assert_ne!(world.nodes[0].live.incarnation, before, "a replica made again is a new life");
    world.write(0, &blind(0), false);
    assert_ne!(world.writes[0].dots, world.writes[1].dots);
    world.merge(0, 0, &record, &Frontier::none());
    assert_eq!(shown(&world, 0), [0, 1], "or one write would have been taken for the other");
}

#[test]
fn a_hint_store_is_destroyed_with_what_it_has_seen() {
    // One that kept its seen clock would never again be offered what it once held.
    let mut world = World::new(1, None);
    world.write(FALLBACK, &blind(0), false);
    world.quarantine(FALLBACK, None);
    let store = &world.nodes[FALLBACK].live;
    assert!(store.records.iter().all(|record| record.is_empty()));
    assert_eq!(store.seen, Rc::default());
    assert!(!store.is_joining(), "it need not pull anything to be of use");
}

#[test]
fn the_cases_that_no_walk_comes_to() {
    assert!(super::super::reports_only_what_is_durable());
    assert!(super::super::drops_its_hint_store_whole());
}

#[test]
fn a_session_of_which_something_was_refused_joins_nothing() {
    // Found by a walk: a home that has frozen an incarnation refused a record of it, joined the source's
    // seen clock all the same, and was never offered that record again.
    let mut world = World::new(1, None);
    world.write(1, &blind(0), false);
    let dot = world.writes[0].dots[0];
    let closed = Rc::make_mut(&mut world.nodes[0].live.closed);
    assert!(closed.freeze(dot.incarnation, &SeenRow::default(), &SeenRow::default()));
    world.pull(0, 1);
    while let Some(message) = world.wire.pop() {
        world.deliver(message);
    }
    assert_eq!(shown(&world, 0), [0; 0]);
    assert!(!world.nodes[0].live.seen.has(dot));
}

#[test]
fn an_answer_to_an_earlier_life_is_not_taken() {
    // Its seen clock would cover dots that this life's empty store has not merged.
    let mut world = World::new(1, None);
    world.write(1, &blind(0), false);
    world.pull(0, 1);
    let question = world.wire.pop().expect("a question");
    world.deliver(question);
    let answer = world.wire.pop().expect("an answer");
    world.quarantine(0, None);
    world.deliver(answer);
    assert_eq!(world.nodes[0].live.seen, Rc::default());
    assert!(world.nodes[0].live.is_joining());
}

#[test]
fn a_write_is_acknowledged_when_it_is_durable_at_its_coordinator_and_once_more() {
    let mut world = World::new(1, None);
    world.write(0, &blind(0), false);
    let record = world.nodes[0].live.records[0].clone();
    world.merge(1, 0, &record, &Frontier::none());
    world.merge(2, 0, &record, &Frontier::none());
    world.sync(1);
    world.sync(2);
    assert!(!world.writes[0].acked, "two copies, but its coordinator's is not durable");
    world.sync(0);
    assert!(world.writes[0].acked);
}

#[test]
fn what_is_in_memory_only_is_gone_after_a_restart() {
    let mut world = World::new(1, None);
    world.write(0, &blind(0), false);
    world.restart(0);
    assert_eq!(shown(&world, 0), [0; 0]);
    world.write(0, &blind(0), false);
    world.sync(0);
    world.restart(0);
    assert_eq!(shown(&world, 0), [1]);
    assert_eq!(world.nodes[0].live.n, 0, "a new life counts from the start");
}
