//! Hybrid time (U14): whatever the wall clock does, a node's stamps ascend, and a broken clock elsewhere
//! does not drag it along.

mod common;

use common::cases;
use gramme_core::hlc::TooFarAhead;
use gramme_core::limits::CLOCK_AHEAD_MS_MAX;
use gramme_core::{Hlc, Stamp};
use proptest::prelude::*;

const NOW: u64 = 1_760_000_000_000;
const TEN_YEARS: u64 = 10 * 365 * 24 * 3600 * 1000;

#[test]
fn stamps_of_one_millisecond_count_up_and_the_next_millisecond_starts_anew() {
    let mut hlc = Hlc::default();
    assert_eq!((hlc.next(NOW).ms(), hlc.last().counter()), (NOW, 0));
    assert_eq!((hlc.next(NOW).ms(), hlc.last().counter()), (NOW, 1));
    assert_eq!((hlc.next(NOW + 1).ms(), hlc.last().counter()), (NOW + 1, 0));
}

#[test]
fn more_events_in_one_millisecond_than_its_counter_holds_run_into_the_next_and_never_back() {
    let mut hlc = Hlc::default();
    let mut before = hlc.next(NOW);
    for _ in 0..3 * (1 << 16) {
        let stamp = hlc.next(NOW);
        assert!(stamp > before);
        before = stamp;
    }
    assert_eq!(before, Stamp::from_ms(NOW + 3), "three milliseconds ahead, and said so in its milliseconds");
    assert!(hlc.next(NOW + 1) > before);
}

#[test]
fn a_wall_clock_ten_years_back_does_not_take_stamps_back() {
    let mut hlc = Hlc::default();
    let before = hlc.next(NOW);
    let after = hlc.next(NOW - TEN_YEARS);
    assert!(after > before);
    assert_eq!(after.ms(), NOW);
}

#[test]
fn a_wall_clock_ten_years_ahead_and_back_stays_ascending() {
    let mut hlc = Hlc::default();
    let mut before = hlc.next(NOW);
    for wall in [NOW + TEN_YEARS, NOW, NOW + TEN_YEARS, NOW - TEN_YEARS, 0, NOW] {
        let stamp = hlc.next(wall);
        assert!(stamp > before, "wall {wall}");
        before = stamp;
    }
}

#[test]
fn a_restart_goes_on_after_the_persisted_bound() {
    let bound = Stamp(Stamp::from_ms(NOW + 100).0 + 7);
    let (mut hlc, report) = Hlc::restore(bound, NOW);
    assert_eq!(report, None);
    assert!(hlc.next(NOW) > bound);
}

#[test]
fn a_bound_left_by_a_broken_clock_is_dropped_at_the_restart_and_reported() {
    let (mut hlc, report) = Hlc::restore(Stamp::from_ms(NOW + TEN_YEARS), NOW);
    assert_eq!(report, Some(TooFarAhead { ahead_ms: TEN_YEARS }));
    assert_eq!(hlc.next(NOW + 1), Stamp::from_ms(NOW + 1));
}

#[test]
fn a_remote_stamp_is_followed_up_to_half_a_second_and_no_further() {
    let mut hlc = Hlc::default();
    hlc.next(NOW);
    let near = Stamp::from_ms(NOW + CLOCK_AHEAD_MS_MAX);
    assert_eq!(hlc.observe(near, NOW), Ok(()));
    assert!(hlc.next(NOW) > near, "an answer is stamped after its question");
    let before = hlc.last();
    let far = Stamp::from_ms(NOW + CLOCK_AHEAD_MS_MAX + 1);
    assert_eq!(hlc.observe(far, NOW), Err(TooFarAhead { ahead_ms: CLOCK_AHEAD_MS_MAX + 1 }));
    assert_eq!(hlc.observe(Stamp(u64::MAX), NOW).map_err(|e| e.ahead_ms > TEN_YEARS), Err(true));
    assert_eq!(hlc.last(), before, "the clock did not move");
}

#[test]
fn a_time_that_48_bits_cannot_hold_is_the_last_one_they_can() {
    assert_eq!(Stamp::from_ms(u64::MAX).ms(), (1 << 48) - 1);
    assert_eq!(Stamp::from_ms(1 << 48), Stamp::from_ms((1 << 48) - 1));
}

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn stamps_ascend_and_stay_near_the_greatest_wall_time(
        steps in proptest::collection::vec((0..4u8, 0..2 * TEN_YEARS), 1..60),
    ) {
        let mut hlc = Hlc::default();
        let (mut before, mut wall_max, mut wall) = (Stamp::default(), 0, NOW);
        for (what, x) in steps {
            match what {
                0 => wall = NOW - TEN_YEARS + x,
                1 => wall += x % 1000,
                2 => {
                    let remote = Stamp::from_ms(wall + x % 1000);
                    let followed = hlc.observe(remote, wall).is_ok();
                    prop_assert_eq!(followed, x % 1000 <= CLOCK_AHEAD_MS_MAX);
                }
                _ => {}
            }
            wall_max = wall_max.max(wall);
            let stamp = hlc.next(wall);
            prop_assert!(stamp > before);
            prop_assert!(stamp.ms() <= wall_max + CLOCK_AHEAD_MS_MAX + 1);
            before = stamp;
        }
    }
}
