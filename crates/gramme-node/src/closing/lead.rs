//! The leading home's side: one round asks everyone, then freezes and closes what may be.
//!
//! Invariant: nothing is closed without the word of every member, in this round, that it has frozen it at that
//! set. A round that breaks anywhere leaves frozen sets, and the next begins with asking again.

use crate::closing::answer::{self, learn_all};
use crate::closing::plan::{Next, Report, next};
use crate::env::Env;
use crate::fan_out::{Answer, Step};
use crate::node::Node;
use crate::probe::Probe;
use gramme_core::closed::{Closed, End};
use gramme_core::limits::{CLOSING_MS, SURVEY_MS};
use gramme_core::planted::{self, Bug};
use gramme_core::seen::SeenRow;
use gramme_core::{Incarnation, NodeId, PartitionId};
use gramme_wire::{Body, Reason, Standing};
use std::collections::BTreeSet;
use std::time::Duration;

/// One round about a partition's holes; the nodes without whose word it came to nothing.
pub(super) async fn round<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    about: Vec<Incarnation>,
) -> BTreeSet<NodeId> {
    let fence = node.live().fence();
    let survey = Body::Survey { about: about.clone(), fence };
    let said = ask_all(node, partition, &heard_of(node, partition), survey).await;
    let reports: Vec<Report> = said.into_iter().filter_map(|(from, body)| report(from, body)).collect();
    let waits_for = without_word(node, partition, &reports);
    if !waits_for.is_empty() {
        node.0.env.probe(Probe::ClosingWaits);
        return waits_for;
    }
    let mut waits_for = BTreeSet::new();
    for incarnation in about {
        match next(incarnation, &reports) {
            Next::Wait => {}
            Next::Close(set) => waits_for.extend(close(node, partition, incarnation, set).await),
            Next::Widen(set) => {
                freeze(node, partition, incarnation, &set).await;
            }
            Next::Tell(set) => tell(node, partition, incarnation, set),
        }
    }
    waits_for
}

/// Freezes an incarnation everywhere, and closes it if everyone has; those who have not.
async fn close<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    incarnation: Incarnation,
    set: SeenRow,
) -> BTreeSet<NodeId> {
    let (silent, more) = freeze(node, partition, incarnation, &set).await;
    match more {
        // Somebody has taken more since it was asked: those who froze less must not refuse that for long.
        Some(more) => {
            let mut all = set;
            all.join(&more);
            freeze(node, partition, incarnation, &all).await;
        }
        None if silent.is_empty() => {
            node.0.env.probe(Probe::IncarnationClosed);
            tell(node, partition, incarnation, set);
        }
        None => node.0.env.probe(Probe::ClosingWaits),
    }
    silent
}

/// Asks everyone to freeze it so: who did not, and what somebody has that the set lacks.
async fn freeze<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    incarnation: Incarnation,
    set: &SeenRow,
) -> (BTreeSet<NodeId>, Option<SeenRow>) {
    let mut asked = heard_of(node, partition);
    if planted::on(Bug::CloseWithoutLastHome) {
        let homes = node.live().homes(partition);
        asked.retain(|member| Some(member) != homes.last());
    }
    let mut silent: BTreeSet<NodeId> = asked.iter().copied().collect();
    let mut more: Option<SeenRow> = None;
    let fence = node.live().fence();
    let ask = Body::Freeze { incarnation, set: set.clone(), fence };
    for (from, body) in ask_all(node, partition, &asked, ask).await {
        match body {
            Body::FreezeReply { frozen: true, .. } => {
                silent.remove(&from);
            }
            Body::FreezeReply { frozen: false, seen } => more.get_or_insert_default().join(&seen),
            _ => {}
        }
    }
    (silent, more)
}

/// It is final: here first, then everywhere. Whoever misses this learns it from a home.
fn tell<E: Env>(node: &Node<E>, partition: PartitionId, incarnation: Incarnation, set: SeenRow) {
    let mut ends = Closed::new();
    ends.set(incarnation, End { set, closed: true });
    learn_all(node, partition, &ends);
    let deadline = node.0.env.now() + Duration::from_millis(CLOSING_MS);
    for peer in node.peers() {
        node.0.routes.tell(peer, partition, Body::Ends { ends: ends.clone() }, deadline);
    }
}

/// What a peer knows to be closed is known here too afterwards.
pub(crate) async fn learn_from<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    peer: NodeId,
) -> Result<(), Reason> {
    let said = ask_all(node, partition, &[peer], Body::Survey { about: Vec::new(), fence: 0 }).await;
    match said.into_iter().find_map(|(from, body)| report(from, body)) {
        Some(report) => {
            learn_all(node, partition, &report.ends);
            Ok(())
        }
        None => Err(Reason::Unavailable),
    }
}

/// Puts a question to these members, this one among them perhaps; what they answered in time.
async fn ask_all<E: Env>(
    node: &Node<E>,
    partition: PartitionId,
    members: &[NodeId],
    body: Body,
) -> Vec<(NodeId, Body)> {
    let deadline = node.0.env.now() + Duration::from_millis(SURVEY_MS);
    let mut gather = node.0.routes.open(partition, deadline);
    let mut answers = Vec::new();
    for &peer in members.iter().filter(|&&member| member != node.id()) {
        gather.ask(peer, body.clone());
    }
    if members.contains(&node.id()) {
        let own = match &body {
            Body::Survey { about, .. } => answer::survey(node, partition, about).await,
            Body::Freeze { incarnation, set, .. } => answer::freeze(node, partition, *incarnation, set).await,
            _ => return answers,
        };
        answers.push((node.id(), own));
    }
    while let Step::Answer(from, answer) = gather.next(deadline).await {
        if let Answer::Said(said) = answer {
            answers.push((from, said));
        }
    }
    answers
}

fn report(node: NodeId, body: Body) -> Option<Report> {
    match body {
        Body::SurveyReply { home, live, seen, ends } => Some(Report { node, home, live, seen, ends }),
        _ => None,
    }
}

/// The members who have not reported, and the homes that prove nothing now.
fn without_word<E: Env>(node: &Node<E>, partition: PartitionId, reports: &[Report]) -> BTreeSet<NodeId> {
    let live = node.live();
    let is_home = |member| live.is_home(partition, member);
    let speaks = |report: &&Report| match report.home {
        Some(life) => life.standing == Standing::Continuous,
        None => !is_home(report.node),
    };
    let heard: BTreeSet<NodeId> = reports.iter().filter(speaks).map(|report| report.node).collect();
    heard_of(node, partition).into_iter().filter(|member| !heard.contains(member)).collect()
}

/// Those whose word is needed. Who goes by other layouts than this node refuses to say anything: it may know of somebody
/// who is not asked.
///
/// They are every member of the cluster by any live layout, and former ones that still hand over. By a layout that was forced,
/// those that it says are lost too: nobody has asked a majority, so they may have gone on, and what they acknowledged would be
/// void when they return. The next change of the ring takes it that they are lost.
fn heard_of<E: Env>(node: &Node<E>, partition: PartitionId) -> Vec<NodeId> {
    let live = node.live();
    let counts = |member: &NodeId| !planted::on(Bug::CloseWithoutHints) || live.is_home(partition, *member);
    let is_forced = live.newest_decree().lineage > 0;
    let lost = live.newest().lost().iter().filter(|_| is_forced);
    let heard: BTreeSet<NodeId> = live.voices().iter().chain(lost).copied().filter(counts).collect();
    heard.into_iter().collect()
}
