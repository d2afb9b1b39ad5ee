//! How long requests took between two looks at a node. Nodes give histograms that grow until they end; the difference
//! of two is what happened between them. The dashboard's `latency.js` counts in the same way.

use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Requests by the upper bound of the bucket that their time fell into, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Histogram(BTreeMap<u64, u64>);

impl Histogram {
    /// From pairs of a bound and a count, as a status has them; nothing of a node that gives none.
    pub(super) fn read(pairs: &Json) -> Option<Histogram> {
        let pairs = pairs.as_array()?.iter();
        Some(Histogram(pairs.filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?))).collect()))
    }

    /// What was counted since `earlier`.
    pub(super) fn since(&self, earlier: &Histogram) -> Histogram {
        let grown = self
            .0
            .iter()
            .map(|(bound, count)| (*bound, count.saturating_sub(earlier.0.get(bound).copied().unwrap_or(0))));
        Histogram(grown.filter(|(_, count)| *count > 0).collect())
    }

    /// Adds another's counts.
    pub(super) fn merge(&mut self, other: &Histogram) {
        for (bound, count) in &other.0 {
            *self.0.entry(*bound).or_default() += count;
        }
    }

    /// All requests.
    pub(super) fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The upper bound of the bucket in which a quantile lies, in microseconds; nothing if nothing was counted.
    pub(super) fn quantile_us(&self, quantile: f64) -> Option<u64> {
        let mut rank = (self.total() as f64 * quantile).ceil() as u64;
        self.0.iter().find_map(|(bound, count)| {
            rank = rank.saturating_sub(*count);
            (rank == 0).then_some(*bound)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn histogram(pairs: Json) -> Histogram {
        Histogram::read(&pairs).unwrap_or_default()
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted_between_two_looks() {
        let earlier = histogram(json!([[100, 1000], [9000, 50]]));
        let grown = histogram(json!([[100, 1090], [400, 9], [9000, 51]])).since(&earlier);
        assert_eq!(grown, histogram(json!([[100, 90], [400, 9], [9000, 1]])));
        assert_eq!([0.5, 0.99, 0.999].map(|q| grown.quantile_us(q)), [Some(100), Some(400), Some(9000)]);
        let mut both = grown.clone();
        both.merge(&histogram(json!([[400, 900]])));
        assert_eq!((both.total(), both.quantile_us(0.5)), (1000, Some(400)));
    }

    #[test]
    fn without_requests_there_is_no_quantile() {
        let counted = histogram(json!([[100, 7]]));
        assert_eq!(counted.since(&counted).quantile_us(0.99), None);
        assert_eq!(Histogram::read(&Json::Null), None);
    }
}
