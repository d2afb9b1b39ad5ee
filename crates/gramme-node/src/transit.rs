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
    least: BTreeMap<NodeId, (u64, i128)>,
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
        let entry = self.least.entry(from).or_insert((connection, difference));
        if entry.0 != connection {
            *entry = (connection, difference);
        }
        entry.1 = entry.1.min(difference);
        let waited = u64::try_from(difference - entry.1).unwrap_or(u64::MAX);
        let remaining =
            Duration::from_micros(remaining_us.into()).saturating_sub(Duration::from_nanos(waited));
        now + remaining
    }
}

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
        assert_eq!(queued, Mono(106_000_000), "sixty milliseconds in a queue are sixty less to live");
    }

    #[test]
    fn a_new_connection_is_measured_anew() {
        let mut transit = Transit::default();
        transit.deadline(PEER, 1, 900_000_000, 100, Mono(1));
        let after_reboot = transit.deadline(PEER, 2, 0, 100_000, Mono(5_000_000_000));
        assert_eq!(after_reboot, Mono(5_100_000_000), "a peer whose clock began again is not late for ever");
    }
}
