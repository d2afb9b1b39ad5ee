//! The world: events in the order of simulated milliseconds, and what the nodes do at each.

use super::check::{Broken, Truth};
use super::node::{Link, Live, Node, Proposing, Waiting, Write, layout, members_of};
use super::{Promise, Tally, Violation};
use crate::rng::Rng;
use gramme_core::paxos::{Acceptor, Decree, Outcome, Proposer, Reply, Request, Says, Settled, Step};
use gramme_core::planted::{self, Bug};
use gramme_core::{LayoutHash, NodeId};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

const FOUNDING: Settled = Settled { decree: Decree { lineage: 0, version: 1 }, hash: LayoutHash(1) };
/// When everything is healed.
const HEAL_MS: u64 = 6_000;
/// How long a proposal may take after that.
const END_MS: u64 = 30_000;

enum Event {
    Deliver { from: usize, to: usize, message: Message },
    Synced { node: usize, life: u64 },
    Propose { node: usize },
    Tick { node: usize, number: u64, tick: u64 },
    GiveUp { node: usize, number: u64 },
    Crash { node: usize },
    Start { node: usize },
    Gossip { node: usize },
    Cut,
    Whole,
    Heal,
}

#[derive(Clone)]
enum Message {
    Ask(Request),
    Reply(Reply),
    Chain(Vec<Rc<Link>>),
}

struct World<'a> {
    rng: Rng,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    nodes: Vec<Node>,
    founders: Vec<NodeId>,
    /// On which side of the cut each node is.
    side: Vec<u64>,
    loss: u32,
    doubling: u32,
    delay_ms: u64,
    sync_ms: u64,
    healed: bool,
    numbers: u64,
    truth: Truth,
    tally: Tally,
    told: Option<&'a mut Vec<String>>,
}

pub(super) fn run(seed: u64, told: Option<&mut Vec<String>>) -> Result<Tally, Violation> {
    let mut world = World::new(seed, told);
    world.agenda();
    let outcome = world.go();
    world.tally.runs = 1;
    world.tally.decrees = world.truth.decrees();
    outcome.map(|()| world.tally).map_err(|(promise, what)| Violation { seed, promise, what })
}

impl<'a> World<'a> {
    fn new(seed: u64, told: Option<&'a mut Vec<String>>) -> World<'a> {
        let mut rng = Rng::stream(seed, "paxos", 0);
        let count = rng.between(3, 9);
        let founders: Vec<NodeId> = (0..rng.between(3, count)).map(|at| NodeId(at + 1)).collect();
        let empty = Live {
            acceptor: Acceptor::new(FOUNDING),
            chain: Vec::new(),
            writes: VecDeque::new(),
            syncing: 0,
            proposing: None,
        };
        let node = |_| Node { disk: empty.to_disk(), life: 0, live: None };
        World {
            now: 0,
            events: BTreeMap::new(),
            sequence: 0,
            nodes: (0..count).map(node).collect(),
            truth: Truth::begins_with(FOUNDING, &founders),
            founders,
            side: vec![0; count as usize],
            loss: rng.pick(&[0, 20, 100, 300]),
            doubling: rng.pick(&[0, 50, 300]),
            delay_ms: rng.pick(&[2, 10, 40]),
            sync_ms: rng.pick(&[1, 5, 30]),
            healed: false,
            numbers: 0,
            tally: Tally::default(),
            told,
            rng,
        }
    }

    /// Draws what will happen of itself.
    fn agenda(&mut self) {
        let count = self.nodes.len();
        for node in 0..count {
            self.at(0, Event::Start { node });
        }
        // Proposals come in bunches, for rivals are what this is about.
        for _ in 0..self.rng.between(1, 4) {
            let bunch = self.rng.below(HEAL_MS);
            for _ in 0..self.rng.between(1, 3) {
                let (node, at) = (self.rng.index(count), bunch + self.rng.below(200));
                self.at(at, Event::Propose { node });
                // A crash soon after meets a proposal half done.
                if self.rng.chance(300) {
                    let at = at + self.rng.below(8 * self.delay_ms);
                    self.at(at, Event::Crash { node });
                    let at = at + self.rng.between(10, 300);
                    self.at(at, Event::Propose { node });
                }
            }
        }
        for _ in 0..self.rng.below(6) {
            let (node, at) = (self.rng.index(count), self.rng.below(HEAL_MS));
            self.at(at, Event::Crash { node });
        }
        for _ in 0..self.rng.below(3) {
            let at = self.rng.below(HEAL_MS);
            self.at(at, Event::Cut);
            let at = at + self.rng.between(100, 4_000);
            self.at(at, Event::Whole);
        }
        self.at(HEAL_MS, Event::Heal);
    }

    fn go(&mut self) -> Result<(), Broken> {
        while let Some(((now, _), event)) = self.events.pop_first() {
            self.now = now;
            if now > HEAL_MS + END_MS {
                break;
            }
            self.happen(event)?;
            if self.healed && self.is_at_rest() {
                return Ok(());
            }
        }
        Err((Promise::SameChain, "after healing, the nodes do not come to the same chain".into()))
    }

    /// Whether every proposal has ended, and everyone knows everything.
    fn is_at_rest(&self) -> bool {
        let last = self.nodes[0].live.as_ref().map(|live| live.head(FOUNDING));
        let waits = |event: &Event| matches!(event, Event::Propose { .. });
        let rests = |node: &Node| {
            node.live
                .as_ref()
                .is_some_and(|live| live.proposing.is_none() && Some(live.head(FOUNDING)) == last)
        };
        self.nodes.iter().all(rests) && !self.events.values().any(waits)
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(told) = &mut self.told {
            told.push(format!("{now:>6} ms {}", what()));
        }
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Synced { node, life } => self.synced(node, life),
            Event::Propose { node } => {
                self.propose(node);
                Ok(())
            }
            Event::Tick { node, number, tick } => {
                self.tick(node, number, tick);
                Ok(())
            }
            Event::GiveUp { node, number } => self.give_up(node, number),
            Event::Crash { node } => {
                self.crash(node);
                Ok(())
            }
            Event::Start { node } => self.start(node),
            Event::Gossip { node } => {
                self.gossip(node);
                Ok(())
            }
            Event::Cut => {
                self.side = (0..self.nodes.len()).map(|_| self.rng.below(2)).collect();
                let side = self.side.clone();
                self.tell(|| format!("the network is cut: {side:?}"));
                Ok(())
            }
            Event::Whole => {
                self.side.fill(0);
                Ok(())
            }
            Event::Heal => self.heal(),
        }
    }

    fn heal(&mut self) -> Result<(), Broken> {
        self.tell(|| "everything heals".into());
        self.healed = true;
        (self.loss, self.doubling) = (0, 0);
        self.side.fill(0);
        self.events
            .retain(|_, event| !matches!(event, Event::Crash { .. } | Event::Cut | Event::Propose { .. }));
        for node in 0..self.nodes.len() {
            self.start(node)?;
        }
        for _ in 0..3 {
            let (node, at) = (self.rng.index(self.nodes.len()), self.now + self.rng.below(300));
            self.at(at, Event::Propose { node });
        }
        Ok(())
    }

    fn start(&mut self, at: usize) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        if node.live.is_some() {
            return Ok(());
        }
        let acceptor = Acceptor::decode(&node.disk.acceptor)
            .map_err(|bad| (Promise::Opens, format!("the acceptor of node {}: {bad}", at + 1)))?;
        let chain = node.disk.chain.clone();
        node.life += 1;
        node.live = Some(Live { acceptor, chain, writes: VecDeque::new(), syncing: 0, proposing: None });
        let when = self.now + self.rng.below(GOSSIP_MS);
        self.at(when, Event::Gossip { node: at });
        Ok(())
    }

    fn crash(&mut self, at: usize) {
        let Some(live) = self.nodes[at].live.take() else { return };
        self.tally.crashes += 1;
        self.tally.mid_proposal += u64::from(live.proposing.is_some());
        // What the disk was at is there or not; nobody was told either way.
        let mut kept = 0;
        if live.syncing > 0 && self.rng.chance(500) {
            kept = live.syncing;
            self.nodes[at].disk = live.writes[live.syncing - 1].disk.clone();
        }
        self.tally.forgetful += u64::from(kept < live.writes.len());
        self.tell(|| format!("node {} crashes and loses {} writes", at + 1, live.writes.len() - kept));
        let soon = live.proposing.is_some() && self.rng.chance(500);
        let when = self.now + if soon { self.rng.between(1, 20) } else { self.rng.between(5, 1_500) };
        self.at(when, Event::Start { node: at });
        // The administrator tries again at once, perhaps with something else.
        if soon {
            self.at(when + 1, Event::Propose { node: at });
        }
    }

    fn gossip(&mut self, at: usize) {
        let Some(live) = &self.nodes[at].live else { return };
        let chain = live.chain.clone();
        let to = self.rng.index(self.nodes.len());
        if !chain.is_empty() {
            self.send(at, to, Message::Chain(chain));
        }
        self.at(self.now + GOSSIP_MS, Event::Gossip { node: at });
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.rng.chance(self.loss) || self.side[from] != self.side[to] {
            self.tally.lost += 1;
            return;
        }
        if self.rng.chance(self.doubling) {
            self.tally.doubled += 1;
            let at = self.now + self.rng.spread(20 * self.delay_ms);
            self.at(at, Event::Deliver { from, to, message: message.clone() });
        }
        let at = self.now + self.rng.spread(self.delay_ms);
        self.at(at, Event::Deliver { from, to, message });
    }

    fn deliver(&mut self, from: usize, to: usize, message: Message) -> Result<(), Broken> {
        if self.side[from] != self.side[to] || self.nodes[to].live.is_none() {
            self.tally.lost += 1;
            return Ok(());
        }
        match message {
            Message::Ask(request) => self.asked(from, to, &request),
            Message::Reply(reply) => self.heard(from, to, reply),
            Message::Chain(links) => links.iter().try_for_each(|link| self.learn(to, link)),
        }
    }

    /// An acceptor is asked: its answer waits for its disk.
    fn asked(&mut self, from: usize, at: usize, request: &Request) -> Result<(), Broken> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let reply = live.acceptor.hear(request).reply;
        let accepts = match request {
            Request::Accept { parent, proposal, .. } if reply.says == Says::Accepted => {
                Some((*parent, proposal.hash))
            }
            _ => None,
        };
        self.tell(|| format!("node {} to node {}: {request:?}: {:?}", from + 1, at + 1, reply.says));
        self.write(at, Some(Waiting { to: from, reply, accepts }))
    }

    /// The state as it is now goes to the disk, and a reply after it.
    fn write(&mut self, at: usize, mut reply: Option<Waiting>) -> Result<(), Broken> {
        if planted::on(Bug::AcceptorAnswersBeforeSync)
            && let Some(waiting) = reply.take()
        {
            self.release(at, waiting)?;
        }
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let disk = live.to_disk();
        live.writes.push_back(Write { disk, reply });
        self.sync(at);
        Ok(())
    }

    fn sync(&mut self, at: usize) {
        let life = self.nodes[at].life;
        let Some(live) = &mut self.nodes[at].live else { return };
        if live.syncing == 0 && !live.writes.is_empty() {
            live.syncing = live.writes.len();
            let when = self.now + self.rng.spread(self.sync_ms);
            self.at(when, Event::Synced { node: at, life });
        }
    }

    fn synced(&mut self, at: usize, life: u64) -> Result<(), Broken> {
        let node = &mut self.nodes[at];
        let Some(live) = node.live.as_mut().filter(|_| node.life == life) else { return Ok(()) };
        let done: Vec<Write> = live.writes.drain(..live.syncing).collect();
        live.syncing = 0;
        for write in done {
            self.nodes[at].disk = write.disk;
            if let Some(waiting) = write.reply {
                self.release(at, waiting)?;
            }
        }
        self.sync(at);
        Ok(())
    }

    fn release(&mut self, at: usize, waiting: Waiting) -> Result<(), Broken> {
        let Waiting { to, reply, accepts } = waiting;
        if let Some((parent, hash)) = accepts {
            self.truth.was_accepted(id(at), (reply.decree, parent, reply.ballot), hash)?;
        }
        self.send(at, to, Message::Reply(reply));
        Ok(())
    }

    fn propose(&mut self, at: usize) {
        let Some(live) = self.nodes[at].live.as_ref().filter(|live| live.proposing.is_none()) else { return };
        let (head, members) = (live.head(FOUNDING), live.members(&self.founders));
        self.numbers += 1;
        // One in six proposes what somebody else may propose too: a plan is the same bytes on every node.
        let own = match self.rng.below(6) {
            0 => layout(&members, 0),
            _ => {
                let changed = self.changed(&members);
                layout(&changed, self.numbers)
            }
        };
        let attempt = if planted::on(Bug::BallotReused) { 0 } else { self.rng.draw() };
        let Some(proposer) = Proposer::new(head, &members, own.clone(), id(at), attempt) else { return };
        let what = Settled { decree: proposer.decree(), hash: own.hash };
        self.truth.was_proposed(what, members_of(&own));
        self.tally.proposals += 1;
        self.tell(|| format!("node {} proposes {what:?} to {members:?}", at + 1));
        let number = self.numbers;
        let proposing = Proposing { proposer, number, tick: 0, rounds: 0, asked: 0, stands_back: false };
        if let Some(live) = &mut self.nodes[at].live {
            live.proposing = Some(proposing);
        }
        let patience = if self.healed { END_MS / 2 } else { self.rng.between(300, 4_000) };
        self.at(self.now + patience, Event::GiveUp { node: at, number });
        self.ask(at);
    }

    /// The members with one more, one less, or the same.
    fn changed(&mut self, members: &[NodeId]) -> Vec<NodeId> {
        let node = id(self.rng.index(self.nodes.len()));
        let mut changed = members.to_vec();
        match changed.iter().position(|&member| member == node) {
            Some(at) if changed.len() > 3 => _ = changed.remove(at),
            Some(_) => {}
            None => changed.push(node),
        }
        changed
    }

    /// Sends the question to those who have not answered it, and asks again later.
    fn ask(&mut self, at: usize) {
        let Some(proposing) = self.nodes[at].live.as_mut().and_then(|live| live.proposing.as_mut()) else {
            return;
        };
        let (to, request) = proposing.proposer.requests();
        proposing.tick += 1;
        proposing.asked += 1;
        let (number, tick) = (proposing.number, proposing.tick);
        for node in to {
            self.send(at, node.0 as usize - 1, Message::Ask(request.clone()));
        }
        let when = self.now + 4 * self.delay_ms + self.rng.between(20, 60);
        self.at(when, Event::Tick { node: at, number, tick });
    }

    fn tick(&mut self, at: usize, number: u64, tick: u64) {
        let Some(proposing) = self.nodes[at].live.as_mut().and_then(|live| live.proposing.as_mut()) else {
            return;
        };
        if (proposing.number, proposing.tick) != (number, tick) {
            return;
        }
        // Who has waited long may have been outbid by some while others are away: it begins again as well.
        if proposing.stands_back || proposing.asked > 4 {
            proposing.proposer.retry();
            proposing.rounds += 1;
            (proposing.stands_back, proposing.asked) = (false, 0);
        }
        self.ask(at);
    }

    fn heard(&mut self, from: usize, at: usize, reply: Reply) -> Result<(), Broken> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let Some(proposing) = &mut live.proposing else { return Ok(()) };
        match proposing.proposer.hear(id(from), reply) {
            Step::Wait => {}
            Step::Ask => {
                proposing.asked = 0;
                self.ask(at);
            }
            Step::Teach(to, _) => {
                self.tally.taught += 1;
                let chain = live.chain.clone();
                self.send(at, to.0 as usize - 1, Message::Chain(chain));
            }
            Step::StandBack => {
                if !proposing.stands_back {
                    proposing.stands_back = true;
                    proposing.tick += 1;
                    let (number, tick, rounds) = (proposing.number, proposing.tick, proposing.rounds);
                    self.tally.stood_back += 1;
                    let most = (4 * (self.delay_ms + self.sync_ms)) << rounds.min(5);
                    let when = self.now + self.rng.between(1, most);
                    self.at(when, Event::Tick { node: at, number, tick });
                }
            }
            Step::End(outcome) => return self.ended(at, outcome),
        }
        Ok(())
    }

    fn give_up(&mut self, at: usize, number: u64) -> Result<(), Broken> {
        let proposing = self.nodes[at].live.as_ref().and_then(|live| live.proposing.as_ref());
        let Some(proposing) = proposing.filter(|proposing| proposing.number == number) else { return Ok(()) };
        let outcome = proposing.proposer.give_up();
        if self.healed && self.now >= HEAL_MS + END_MS / 2 {
            return Err((Promise::Ends, format!("node {} after healing: {outcome:?}", at + 1)));
        }
        self.ended(at, outcome)
    }

    fn ended(&mut self, at: usize, outcome: Outcome) -> Result<(), Broken> {
        let proposing = self.nodes[at].live.as_mut().and_then(|live| live.proposing.take());
        let Some(Proposing { proposer, .. }) = proposing else { return Ok(()) };
        let own = Settled { decree: proposer.decree(), hash: proposer.own().hash };
        self.tell(|| format!("node {} is told of {own:?}: {outcome:?}", at + 1));
        self.truth.was_told(own, &outcome)?;
        let link = match outcome {
            Outcome::Chosen(certificate) => {
                self.tally.chosen += 1;
                Link { proposal: proposer.own().clone(), certificate }
            }
            Outcome::AnotherWasChosen { proposal, certificate } => {
                self.tally.another += 1;
                Link { proposal, certificate }
            }
            Outcome::Settled(_) | Outcome::OtherParent(..) => {
                self.tally.settled += 1;
                return Ok(());
            }
            Outcome::NoQuorum { .. } => {
                self.tally.no_quorum += 1;
                return Ok(());
            }
        };
        let link = Rc::new(link);
        self.learn(at, &link)?;
        for to in 0..self.nodes.len() {
            self.send(at, to, Message::Chain(vec![link.clone()]));
        }
        Ok(())
    }

    /// A node is shown a layout with its proof.
    fn learn(&mut self, at: usize, link: &Rc<Link>) -> Result<(), Broken> {
        let Some(live) = &mut self.nodes[at].live else { return Ok(()) };
        let known = live.chain.iter().find(|mine| mine.certificate.decree == link.certificate.decree);
        if known.is_some_and(|mine| mine.certificate.contradicts(&link.certificate)) {
            return Err((Promise::OnePerDecree, format!("node {} is shown two of one number", at + 1)));
        }
        let (head, members) = (live.head(FOUNDING), live.members(&self.founders));
        // What does not follow yet comes again with the next gossip.
        if link.certificate.verify(head, &members).is_err() {
            return Ok(());
        }
        live.chain.push(link.clone());
        let settled = link.certificate.settled();
        if let Err(other) = live.acceptor.settle(settled) {
            let what = format!("the acceptor of node {} knows {other:?}, not {settled:?}", at + 1);
            return Err((Promise::OnePerDecree, what));
        }
        let is_over = live.proposing.as_ref().is_some_and(|one| one.proposer.decree() <= settled.decree);
        self.write(at, None)?;
        if is_over { self.ended(at, Outcome::Settled(settled)) } else { Ok(()) }
    }
}

fn id(at: usize) -> NodeId {
    NodeId(at as u64 + 1)
}

/// Between two times that a node shows its chain to another.
const GOSSIP_MS: u64 = 300;
