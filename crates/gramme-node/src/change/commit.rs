//! Committing layouts: one decree after the other is settled by single-decree Paxos among the members of the layout before
//! it ([`gramme_core::paxos`]), and told to everyone with its proof. Administration alone waits for it; data traffic
//! never does.
//!
//! Invariant: what an acceptor here answers is durable before it leaves; one that may have forgotten an answer gives none until
//! the decree that was open is settled.

use super::stage;
use crate::env::{Env, Mono, Trust};
use crate::fan_out::{Answer, Gather, Step as Heard};
use crate::node::Node;
use crate::probe::Probe;
use crate::request::Committed;
use crate::rows::{self, KIND_ACCEPTOR};
use crate::serve::refused;
use gramme_core::change::{Ground, Link};
use gramme_core::gossip::{Difference, Entry, Name};
use gramme_core::limits::{COMMIT_ASK_MS, COMMIT_MS, STAGE_MS};
use gramme_core::paxos::{
    Acceptor, Ballot, Certificate, Decree, Outcome, Proposal, Proposer, Request, Says, Settled, Step,
    majority,
};
use gramme_core::planted::{self, Bug};
use gramme_core::{Layout, LayoutHash, NodeId};
use gramme_wire::{Body, Message, Reason, Reconcile};
use std::time::Duration;

/// Commits the plan of this hash, if it still is the plan.
pub(crate) async fn commit<E: Env>(node: &Node<E>, hash: LayoutHash) -> Result<Committed, String> {
    let _turn = Turn::take(node)?;
    let planned = agreed(node, hash)?;
    let mut layouts = Vec::new();
    for layout in planned.plan.chain() {
        match settle(node, layout).await {
            Ok(decree) => layouts.push((decree, layout.hash())),
            Err(why) if layouts.is_empty() => return Err(why),
            Err(why) => {
                return Err(format!(
                    "{} of the plan's {} layouts were committed and are being gone to; then {why}; what is left is in the next `gramme cluster plan`",
                    layouts.len(),
                    planned.plan.chain().len()
                ));
            }
        }
    }
    Ok(Committed { layouts })
}

/// Begins a new lineage with the plan of this hash, where a majority of the members is lost for good.
pub(crate) async fn force<E: Env>(node: &Node<E>, hash: LayoutHash) -> Result<Committed, String> {
    let _turn = Turn::take(node)?;
    let planned = agreed(node, hash)?;
    let (decree, head) = stage::head(node);
    let members: Vec<NodeId> = head.members().iter().map(|member| member.id).collect();
    let there = 1 + heads_of(node, &members).await.len();
    if there >= majority(head.members().len()) {
        return Err(format!(
            "{there} of {} members answer and may vote, which is a majority: use `gramme cluster commit`",
            head.members().len()
        ));
    }
    let lost: usize = planned.plan.last().removed().len().saturating_sub(head.removed().len());
    if head.members().len().saturating_sub(lost) > 2 * there {
        return Err(
            "the plan keeps members that do not answer: stage the leave of each with --lost first, or they would go on by the old lineage".to_string(),
        );
    }
    let mut layouts = Vec::new();
    for layout in planned.plan.chain() {
        let decree = Decree { lineage: decree.lineage + 1, version: layout.version() };
        let ground = Ground::Forced { by: node.id() };
        publish(node, &Link { decree, layout: layout.clone(), ground }).await?;
        layouts.push((decree, layout.hash()));
    }
    Ok(Committed { layouts })
}

/// Commits a return to the layout that is read by.
pub(crate) async fn abort<E: Env>(node: &Node<E>) -> Result<(), String> {
    let _turn = Turn::take(node)?;
    stage::may_change(node)?;
    let layout = {
        let chain = node.0.changing.chain.borrow();
        let (decree, head) = chain.head();
        let reads = node.live().reads_decree();
        let base = chain.layout(reads).filter(|_| reads != decree).ok_or(
            "nothing is under way that could be called off: every node reads by the last layout, or will at once",
        )?;
        // The others have gone on without it: it may not come back with what it held.
        let later = chain.line().filter(|(decree, _)| *decree > reads).flat_map(|(_, layout)| layout.lost());
        if let Some(lost) = later.copied().find_map(|lost| base.member(lost)) {
            return Err(format!(
                "what is under way says that {} is lost for good, and that cannot be taken back: let it end, then change the ring anew",
                lost.name
            ));
        }
        head.back_to_that_of(base)
    };
    settle(node, &layout).await.map(|_| ())
}

/// One commit at a time at one node.
struct Turn<E: Env>(Node<E>);

impl<E: Env> Turn<E> {
    fn take(node: &Node<E>) -> Result<Turn<E>, String> {
        if node.0.changing.committing.replace(true) {
            return Err("this node is committing already: wait for its answer".to_string());
        }
        Ok(Turn(node.clone()))
    }
}

impl<E: Env> Drop for Turn<E> {
    fn drop(&mut self) {
        self.0.0.changing.committing.set(false);
    }
}

fn agreed<E: Env>(node: &Node<E>, hash: LayoutHash) -> Result<crate::request::Planned, String> {
    if let Some(decree) = committed_as(node, hash) {
        return Err(format!("that plan was committed already, as {decree}: see `gramme cluster history`"));
    }
    let planned = stage::planned(node)?;
    if planned.plan.hash() != hash {
        return Err(
            "what is staged, or the layout that it follows, has changed since that plan: nothing was committed; look again with `gramme cluster plan`".to_string(),
        );
    }
    let chain = node.0.changing.chain.borrow();
    let waiting = chain.line().filter(|(decree, _)| *decree > node.live().newest_decree()).count();
    if waiting + planned.plan.chain().len() > WAITING_MAX {
        return Err(format!(
            "{waiting} layouts are committed already and wait to be gone to, and {WAITING_MAX} may: wait, or call them off with `gramme cluster abort`"
        ));
    }
    Ok(planned)
}

fn committed_as<E: Env>(node: &Node<E>, hash: LayoutHash) -> Option<Decree> {
    let chain = node.0.changing.chain.borrow();
    chain.line().find(|(_, layout)| layout.hash() == hash).map(|(decree, _)| decree)
}

/// Has a layout chosen to follow the last one, and known here.
async fn settle<E: Env>(node: &Node<E>, layout: &Layout) -> Result<Decree, String> {
    let (settled, members) = {
        let chain = node.0.changing.chain.borrow();
        let members: Vec<NodeId> = chain.head().1.members().iter().map(|member| member.id).collect();
        (chain.settled(), members)
    };
    if settled.hash != layout.parent() {
        return Err("another layout was committed meanwhile: nothing of this was; look again with `gramme cluster plan`".to_string());
    }
    let own = Proposal { hash: layout.hash(), bytes: layout.encode().into() };
    let proposer = Proposer::new(settled, &members, own, node.id(), node.0.env.random())
        .ok_or("there are no numbers left for layouts")?;
    let decree = proposer.decree();
    match propose(node, proposer).await {
        Outcome::Chosen(certificate) => {
            publish(node, &Link { decree, layout: layout.clone(), ground: Ground::Chosen(certificate) })
                .await?;
            Ok(decree)
        }
        Outcome::AnotherWasChosen { proposal, certificate } => {
            take_anothers(node, decree, &proposal, certificate).await?;
            Err(format!(
                "another administrator's plan was committed first, as {decree}: nothing of this was; look again with `gramme cluster plan`"
            ))
        }
        Outcome::Settled(other) => Err(format!(
            "another plan was committed first, as {}, which this node has yet to learn: nothing of this was; look again with `gramme cluster plan`",
            other.decree
        )),
        Outcome::OtherParent(from, other) => Err(format!(
            "{} knows another layout under the number of {}, which no sound cluster has: nothing was committed; somebody must look, see `gramme cluster history` at both",
            node.name_of(from),
            other.decree
        )),
        Outcome::NoQuorum { answered, needed, may_come } => {
            let what = match may_come {
                true => "it may still be committed once they are back, if somebody commits then",
                false => "nothing was committed",
            };
            Err(format!(
                "only {answered} of {} members have answered, and a ring change needs {needed}: {what}; reads and writes do not depend on it",
                members.len()
            ))
        }
    }
}

async fn take_anothers<E: Env>(
    node: &Node<E>,
    decree: Decree,
    proposal: &Proposal,
    certificate: Certificate,
) -> Result<(), String> {
    let layout = Layout::decode(&proposal.bytes)
        .map_err(|_| format!("what was chosen for {decree} is no layout: somebody must look"))?;
    publish(node, &Link { decree, layout, ground: Ground::Chosen(certificate) }).await
}

/// One attempt, from its first question to its end.
async fn propose<E: Env>(node: &Node<E>, mut proposer: Proposer) -> Outcome {
    let env = node.0.env.clone();
    let end = env.now() + Duration::from_millis(COMMIT_MS);
    while env.now() < end {
        let (to, request) = proposer.requests();
        let until = (env.now() + Duration::from_millis(COMMIT_ASK_MS)).min(end);
        let mut gather = node.0.routes.open(Message::NO_PARTITION, until);
        ask(node, &gather, &to, &request);
        match hear(node, &mut proposer, &mut gather, until).await {
            Some(outcome) => return outcome,
            None => continue,
        }
    }
    proposer.give_up()
}

fn ask<E: Env>(node: &Node<E>, gather: &Gather<E>, to: &[NodeId], request: &Request) {
    for &member in to {
        if member == node.id() {
            let (own, here, request) = (gather.ask_here(member), node.clone(), request.clone());
            node.0.env.spawn("own vote", async move { own(answer(&here, &request).await) });
        } else {
            gather.ask(member, Body::Paxos(Box::new(request.clone())));
        }
    }
}

/// Takes the answers to one question; `None` if the next is to be asked.
async fn hear<E: Env>(
    node: &Node<E>,
    proposer: &mut Proposer,
    gather: &mut Gather<E>,
    until: Mono,
) -> Option<Outcome> {
    let env = node.0.env.clone();
    loop {
        let (from, reply) = match gather.next(until).await {
            Heard::Answer(from, Answer::Said(Body::PaxosReply(reply))) => (from, *reply),
            Heard::Answer(..) => continue,
            Heard::Time => return None,
            Heard::Exhausted => {
                // Whoever could not be asked is asked again in a while.
                env.sleep_until(until.min(env.now() + ASK_PAUSE)).await;
                return None;
            }
        };
        match proposer.hear(from, reply) {
            Step::Wait => {}
            Step::Ask => return None,
            Step::StandBack => {
                let pause = STAND_BACK_MS + env.random() % (4 * STAND_BACK_MS);
                env.sleep_until(env.now() + Duration::from_millis(pause)).await;
                return (!proposer.retry()).then(|| proposer.give_up());
            }
            Step::Teach(who, settled) => teach(node, who, settled),
            Step::End(outcome) => return Some(outcome),
        }
    }
}

/// Sends a member the layouts that it has not learned; it is asked again with the next question.
fn teach<E: Env>(node: &Node<E>, who: NodeId, settled: Settled) {
    let known = node.0.cluster.known();
    let lacks =
        |(name, _): &(&Name, &Entry)| matches!(name, Name::Layout(decree, _) if *decree > settled.decree);
    let send = known.entries().filter(lacks).map(|(name, entry)| (name.clone(), entry.clone())).collect();
    let body = Body::Reconcile(Reconcile::Entries(Difference { send, want: Vec::new() }));
    crate::gossip::tell(node, who, body);
}

/// Makes a link known here, durably, and tells everyone.
async fn publish<E: Env>(node: &Node<E>, link: &Link) -> Result<(), String> {
    let (name, entry) = link.entry();
    let _room = node.0.cluster.keep(name, entry);
    let changing = &node.0.changing;
    let is_known = || {
        let chain = changing.chain.borrow();
        chain.layout(link.decree).is_some_and(|layout| layout.hash() == link.layout.hash()).then_some(())
    };
    let until = node.0.env.now() + Duration::from_millis(STAGE_MS);
    match node.until(until, &changing.news, is_known).await {
        Some(()) => Ok(()),
        None => Err(format!(
            "{} is committed, and could not be made durable here in time: look at this node's disk, and at `gramme cluster history` of another",
            link.decree
        )),
    }
}

/// This member answers a proposer; whoever is asked, here or by a peer, answers from one memory.
pub(crate) async fn answer<E: Env>(node: &Node<E>, request: &Request) -> Body {
    if node.0.options.shard != 0 || !is_proposable(request) {
        return refused(Reason::Invalid("this is no layout that could be committed".to_string()));
    }
    // Whoever has not met everyone may be one whose disk was lost, and not know it yet.
    if node.0.trust.get() != Trust::Continuous {
        return refused(Reason::Unavailable);
    }
    let heard = {
        let mut acceptor = node.0.changing.acceptor.borrow_mut();
        acceptor.as_mut().map(|acceptor| {
            let answer = acceptor.hear(request);
            (answer.reply, answer.changed.then(|| acceptor.encode()))
        })
    };
    let Some((reply, state)) = heard else { return refused(Reason::Unavailable) };
    node.0.env.probe(Probe::Voted);
    let kept = match state
        .map(|state| node.0.store.append_plain([(rows::node_row(KIND_ACCEPTOR, &[]), state.into())]))
    {
        Some(Err(cause)) => Err(cause),
        _ if planted::on(Bug::AcceptorAnswersBeforeSync) => Ok(()),
        _ => node.0.store.wait_all().await,
    };
    match kept {
        Ok(()) => Body::PaxosReply(Box::new(reply)),
        // What it said may or may not last: it says nothing for this decree any more.
        Err(cause) => {
            *node.0.changing.acceptor.borrow_mut() = None;
            refused(crate::replica::disk(cause))
        }
    }
}

/// Whether what is to be accepted is the layout that it claims to be.
fn is_proposable(request: &Request) -> bool {
    let Request::Accept { decree, parent, proposal, .. } = request else { return true };
    Layout::decode(&proposal.bytes).is_ok_and(|layout| {
        layout.hash() == proposal.hash && layout.parent() == *parent && layout.version() == decree.version
    })
}

/// The disk was lost, and with it what this member may have promised: it votes no more before every decree is settled for
/// which that can have been.
pub(crate) fn forget<E: Env>(node: &Node<E>) {
    *node.0.changing.acceptor.borrow_mut() = None;
    node.0.changing.silent_until.set(None);
    // A store that refuses this takes no votes either.
    let _ = node.0.store.append_plain([(rows::node_row(KIND_ACCEPTOR, &[]), FORGOT.into())]);
}

/// A member that has forgotten finds out for which decree it may vote again, as long as the shard lives. Whatever it had
/// voted for, others had voted for with it, who knew everything before that to be settled; any majority of the others
/// has one of them in it. So what it had voted for is at most the one after the highest that such a majority knows.
pub(crate) async fn recover_for_ever<E: Env>(node: Node<E>) {
    let env = node.0.env.clone();
    loop {
        env.sleep_until(env.now() + Duration::from_millis(COMMIT_MS)).await;
        let changing = &node.0.changing;
        if changing.acceptor.borrow().is_some() {
            continue;
        }
        if changing.silent_until.get().is_none() {
            let (_, head) = stage::head(&node);
            let members: Vec<NodeId> = head.members().iter().map(|member| member.id).collect();
            let heads = heads_of(&node, &members).await;
            if heads.len() >= majority(members.len()) || heads.len() + 1 == members.len() {
                changing.silent_until.set(heads.into_iter().max().and_then(Decree::next));
            }
        }
        let settled = changing.chain.borrow().settled();
        learn(&node, settled);
    }
}

/// What the other members that may vote know to be settled.
async fn heads_of<E: Env>(node: &Node<E>, members: &[NodeId]) -> Vec<Decree> {
    let until = node.0.env.now() + Duration::from_millis(COMMIT_ASK_MS);
    let others: Vec<NodeId> = members.iter().copied().filter(|&id| id != node.id()).collect();
    // Of what is settled long ago every acceptor says what it knows beyond it.
    let (decree, parent) = (Decree::default(), LayoutHash::default());
    let ask = Request::Prepare { decree, parent, ballot: Ballot::default() };
    let body = Body::Paxos(Box::new(ask));
    let mut gather = node.0.routes.fan_out(&others, Message::NO_PARTITION, body, until);
    let mut heads = Vec::new();
    while let Heard::Answer(_, answer) = gather.next(until).await {
        if let Answer::Said(Body::PaxosReply(reply)) = answer
            && let Says::Settled(settled) = reply.says
        {
            heads.push(settled.decree);
        }
    }
    heads
}

/// The acceptor learns what is settled; one that had lost its memory begins anew with the first decree that it cannot have
/// voted for.
pub(crate) fn learn<E: Env>(node: &Node<E>, now: Settled) {
    let mut acceptor = node.0.changing.acceptor.borrow_mut();
    let may_begin = node.0.changing.silent_until.get().is_some_and(|until| now.decree >= until);
    match acceptor.as_mut() {
        // A contradiction is an alarm of the chain's.
        Some(acceptor) => _ = acceptor.settle(now),
        None if may_begin => *acceptor = Some(Acceptor::new(now)),
        None => return,
    }
    if let Some(acceptor) = acceptor.as_ref() {
        // What is lost of it is in the chain.
        let _ = node.0.store.append_plain([(rows::node_row(KIND_ACCEPTOR, &[]), acceptor.encode().into())]);
    }
}

/// In the place of an acceptor that has forgotten: bytes that are none.
const FORGOT: &[u8] = b"forgot";
const ASK_PAUSE: Duration = Duration::from_millis(100);
const STAND_BACK_MS: u64 = 40;
/// Layouts that may wait in line.
const WAITING_MAX: usize = 64;
