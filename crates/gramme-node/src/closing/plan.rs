//! What may be done about one incarnation, by what every node has said: a decision without a clock or a network.

use gramme_core::closed::{Closed, agreed, union};
use gramme_core::seen::SeenRow;
use gramme_core::{Incarnation, NodeId, Seen};
use gramme_wire::Life;

/// What one node has said of a partition.
#[derive(Clone, Debug)]
pub(super) struct Report {
    pub(super) node: NodeId,
    /// Who says so, if it is a home.
    pub(super) home: Option<Life>,
    pub(super) live: Option<Incarnation>,
    pub(super) seen: Seen,
    pub(super) ends: Closed,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Somebody lives it, or what was seen of it is still on its way to the homes.
    Wait,
    /// It may be closed at this set once everyone has frozen it so.
    Close(SeenRow),
    /// Some have frozen it without what others have: it is frozen wider, so that they take that.
    Widen(SeenRow),
    /// It is closed already, and some do not know it.
    Tell(SeenRow),
}

/// Decides; every node has reported, and every home is continuous.
pub(super) fn next(incarnation: Incarnation, reports: &[Report]) -> Next {
    if reports.iter().any(|report| report.live == Some(incarnation)) {
        return Next::Wait;
    }
    let ends = || reports.iter().filter_map(|report| report.ends.end(incarnation));
    if let Some(end) = ends().find(|end| end.closed) {
        return Next::Tell(end.set.clone());
    }
    let row = |report: &Report| report.seen.row(incarnation).cloned().unwrap_or_default();
    let (homes, others): (Vec<&Report>, Vec<&Report>) =
        reports.iter().partition(|report| report.home.is_some());
    let homes: Vec<SeenRow> = homes.into_iter().map(row).collect();
    let others: Vec<SeenRow> = others.into_iter().map(row).collect();
    let frozen: Vec<&SeenRow> = ends().map(|end| &end.set).collect();
    match agreed(&homes, &others) {
        Some(set) if frozen.iter().all(|frozen| set.contains(frozen)) => Next::Close(set),
        _ if frozen.is_empty() => Next::Wait,
        _ => {
            let all = union(homes.iter().chain(&others).chain(frozen.iter().copied()));
            if frozen.iter().all(|frozen| **frozen == all) { Next::Wait } else { Next::Widen(all) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::closed::End;
    use gramme_wire::Standing;

    const DEAD: Incarnation = Incarnation(9);

    fn row(numbers: &[u64]) -> SeenRow {
        SeenRow::from_runs(numbers.iter().map(|&n| (n - 1, n)))
    }

    fn report(node: u64, is_home: bool, numbers: &[u64]) -> Report {
        let life = Life { number: 1, standing: Standing::Continuous };
        let mut seen = Seen::new();
        seen.set_row(DEAD, row(numbers));
        let home = is_home.then_some(life);
        Report { node: NodeId(node), home, live: Some(Incarnation(node)), seen, ends: Closed::new() }
    }

    fn ended(mut report: Report, numbers: &[u64], closed: bool) -> Report {
        report.ends.set(DEAD, End { set: row(numbers), closed });
        report
    }

    #[test]
    fn it_is_closed_once_nobody_lives_it_and_the_homes_agree() {
        let of = |live| {
            let mut last = report(3, false, &[3]);
            last.live = live;
            next(DEAD, &[report(1, true, &[1, 3]), report(2, true, &[1, 3]), last])
        };
        assert_eq!(of(None), Next::Close(row(&[1, 3])));
        assert_eq!(of(Some(DEAD)), Next::Wait, "a fallback lives it");
    }

    #[test]
    fn what_one_home_lacks_or_a_hint_store_alone_has_is_waited_for() {
        assert_eq!(next(DEAD, &[report(1, true, &[1, 3]), report(2, true, &[3])]), Next::Wait);
        assert_eq!(next(DEAD, &[report(1, true, &[3]), report(2, false, &[1])]), Next::Wait);
    }

    #[test]
    fn a_frozen_set_that_lacks_something_grows_and_a_closed_one_is_told() {
        let frozen = || ended(report(1, true, &[3]), &[3], false);
        let all = || [frozen(), report(2, true, &[1, 3])];
        assert_eq!(next(DEAD, &all()), Next::Widen(row(&[1, 3])));
        let wide = [ended(report(1, true, &[3]), &[1, 3], false), report(2, true, &[1, 3])];
        assert_eq!(next(DEAD, &wide), Next::Wait, "the home will pull what it takes now");
        let told = [ended(report(1, true, &[3]), &[3], true), report(2, true, &[1, 3])];
        assert_eq!(next(DEAD, &told), Next::Tell(row(&[3])), "whoever has more has lost its promise");
    }

    #[test]
    fn a_frozen_set_that_nobody_has_seen_all_of_stands() {
        // Whoever brought the rest has lost it since; taking the set back would let two sets be final.
        let frozen = ended(report(1, true, &[3]), &[1, 3], false);
        assert_eq!(next(DEAD, &[frozen, report(2, true, &[3])]), Next::Wait);
    }
}
