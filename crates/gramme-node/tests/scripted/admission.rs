//! How background work is paced while clients are served.

use crate::world::*;
use gramme_core::limits::BACKGROUND_BYTES_START;
use gramme_node::admission::Work;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;

/// Background flows that have got their slice, in order.
type Given = Rc<RefCell<Vec<Work>>>;

fn wants(story: &Story, given: &Given, work: Work, bytes: u64) {
    let (admission, given) = (story.node.admission().clone(), given.clone());
    story.world.spawn_task(async move {
        admission.slice(work, bytes).await;
        given.borrow_mut().push(work);
    });
    story.world.run();
}

#[test]
fn slices_go_out_at_the_pace_of_the_budget_most_urgent_first() {
    let story = Story::at_home();
    let given = Given::default();
    for work in [Work::Scrub, Work::Reclaim, Work::Exchange, Work::Handoff] {
        wants(&story, &given, work, BACKGROUND_BYTES_START);
    }
    story.pass_ms(1);
    assert_eq!(*given.borrow(), [Work::Handoff], "one second's budget is spent at once");
    story.pass_ms(1100);
    assert_eq!(*given.borrow(), [Work::Handoff, Work::Exchange]);
    story.pass_ms(2200);
    assert_eq!(*given.borrow(), [Work::Handoff, Work::Exchange, Work::Reclaim, Work::Scrub]);
}

#[test]
fn the_urgent_never_stops_the_rest() {
    let story = Story::at_home();
    let given = Given::default();
    wants(&story, &given, Work::Scrub, 1);
    for _ in 0..20 {
        wants(&story, &given, Work::Handoff, BACKGROUND_BYTES_START / 100);
    }
    story.pass_ms(500);
    let scrub_at = given.borrow().iter().position(|&work| work == Work::Scrub);
    assert!(scrub_at.is_some_and(|at| at < 10), "{scrub_at:?}");
}

#[test]
fn a_slow_disk_takes_the_budget_down_and_a_quick_one_brings_it_back() {
    let story = Story::at_home();
    let given = Given::default();
    let budget = || story.node.status().admission.budget_bytes_per_s;
    let write_that_takes_ms = |n: u64, ms: u64| {
        story.world.disk.hold_commits(true);
        let mut put = put("k", "v", u128::from(n));
        put.w = Some(gramme_core::bucket::Level::One);
        let put = story.asks(write(put));
        story.pass_ms(ms);
        story.world.disk.hold_commits(false);
        story.world.run();
        put.done();
    };
    for n in 0..60 {
        wants(&story, &given, Work::Exchange, BACKGROUND_BYTES_START / 2);
        write_that_takes_ms(n, 200);
        story.pass_ms(500);
    }
    let cut = budget();
    assert!(cut < BACKGROUND_BYTES_START / 4, "{cut} bytes per second");
    story.pass_ms(200_000);
    assert!(budget() > BACKGROUND_BYTES_START, "{} bytes per second", budget());
}

#[test]
fn one_who_goes_away_while_waiting_costs_nothing() {
    let story = Story::at_home();
    let given = Given::default();
    {
        let admission = story.node.admission().clone();
        let mut gone = Box::pin(async move { admission.slice(Work::Handoff, u64::MAX / 4).await });
        let waker = std::task::Waker::noop();
        assert!(gone.as_mut().poll(&mut std::task::Context::from_waker(waker)).is_pending());
    }
    wants(&story, &given, Work::Scrub, 1);
    story.pass_ms(5);
    assert_eq!(*given.borrow(), [Work::Scrub]);
}
