//! How long did this message wait on the way? Peers' clocks are not comparable, but along one connection the
//! least difference ever seen between receiving and sending is the way without waiting; what a message took
//! beyond that, it spent in queues, and its time is shorter by as much (design section 5, Deadlines).

use crate::env::Mono;
use gramme_core::NodeId;
use std::collections::BTreeMap;
use std::time::Duration;

/// The least difference per peer, for its newest connection.
#[derive(Debug, Default)]
pub(crate) struct Transit {
    least: BTreeMap<NodeId, Least>,
}

#[derive(Clone, Copy, Debug)]
struct Least {
    connection: u64,
    difference: i128,
    /// When it was last looked at.
    at: Mono,
}

impl Transit {
    /// When the time of a message is over, on this node's clock.
    pub(crate) fn deadline(
        &mut self,
        from: NodeId,
        connection: u64,
        sent_ns: u64,
        remaining_us: u32,
        now: Mono,
    ) -> Mono {
        let difference = i128::from(now.0) - i128::from(sent_ns);
        let fresh = Least { connection, difference, at: now };
        let least = self.least.entry(from).or_insert(fresh);
        if least.connection != connection {
            *least = fresh;
        }
        let drift = i128::from(now.0.saturating_sub(least.at.0)) / DRIFT;
        least.difference = difference.min(least.difference + drift);
        least.at = least.at.max(now);
        let waited = u64::try_from(difference - least.difference).unwrap_or(u64::MAX);
        let remaining =
            Duration::from_micros(remaining_us.into()).saturating_sub(Duration::from_nanos(waited));
        now + remaining
    }
}

/// Two sound clocks part by less than one part in so many. The least difference is allowed to grow as fast,
/// or on a connection that stands for days every message would look late.
const DRIFT: i128 = 5_000;

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: NodeId = NodeId(7);

    #[test]
    fn waiting_beyond_the_fastest_message_shortens_the_time_that_is_left() {
        let mut transit = Transit::default();
        let first = transit.deadline(PEER, 1, 0, 100_000, Mono(5_000_000));
        assert_eq!(first, Mono(105_000_000), "the first message sets the measure");
        let queued = transit.deadline(PEER, 1, 1_000_000, 100_000, Mono(66_000_000));
        let drift = 61_000_000 / 5_000;
        assert_eq!(queued, Mono(106_000_000 + drift), "sixty milliseconds in a queue are sixty less to live");
    }

    #[test]
    fn clocks_that_part_slowly_make_nobody_late_and_an_hour_in_a_queue_still_does() {
        let mut transit = Transit::default();
        let hour = 3_600_000_000_000;
        let mut now = 0;
        for _ in 0..1_000 {
            now += hour;
            // This clock gains fifty millionths on the peer's.
            let sent_ns = now - now / 20_000;
            assert_eq!(transit.deadline(PEER, 1, sent_ns, 1_000, Mono(now)), Mono(now + 1_000_000));
        }
        let sent_ns = now - now / 20_000;
        let late = transit.deadline(PEER, 1, sent_ns, 1_000_000, Mono(now + hour));
        assert_eq!(late, Mono(now + hour), "its second is long over");
    }

    #[test]
    fn a_new_connection_is_measured_anew() {
        let mut transit = Transit::default();
        transit.deadline(PEER, 1, 900_000_000, 100, Mono(1));
        let after_reboot = transit.deadline(PEER, 2, 0, 100_000, Mono(5_000_000_000));
        assert_eq!(after_reboot, Mono(5_100_000_000), "a peer whose clock began again is not late for ever");
    }
}
