//! What is settled is settled once (U12): the cases by hand, then every order of messages that two proposers and
//! three acceptors can see, with loss, doubling and proposers that crash.

use bytes::Bytes;
use gramme_core::codec::{BadBytes, Reader, Writer};
use gramme_core::limits::LAYOUT_BYTES_MAX;
use gramme_core::paxos::{
    Accepted, Acceptor, BadCertificate, Ballot, Certificate, Decree, Outcome, Proposal, Proposer, Reply,
    Request, Says, Settled, Step, majority, read_certificate, write_certificate,
};
use gramme_core::{LayoutHash, NodeId};
use std::collections::BTreeSet;

const PARENT: Settled = Settled { decree: Decree { lineage: 0, version: 1 }, hash: LayoutHash(1) };
const OPEN: Decree = Decree { lineage: 0, version: 2 };

fn proposal(hash: u128) -> Proposal {
    Proposal { hash: LayoutHash(hash), bytes: Bytes::copy_from_slice(&hash.to_be_bytes()) }
}

fn members(count: u64) -> Vec<NodeId> {
    (1..=count).map(NodeId).collect()
}

fn proposer(hash: u128, node: u64, count: u64) -> Proposer {
    Proposer::new(PARENT, &members(count), proposal(hash), NodeId(node), node * 1000)
        .expect("version 2 exists")
}

fn acceptors(count: u64) -> Vec<(NodeId, Acceptor)> {
    members(count).into_iter().map(|node| (node, Acceptor::new(PARENT))).collect()
}

/// Asks those of the acceptors that are `up`, in order, until nothing is left to ask.
fn run(proposer: &mut Proposer, acceptors: &mut [(NodeId, Acceptor)], up: &[u64]) -> Step {
    let mut last = Step::Ask;
    while last == Step::Ask {
        last = Step::Wait;
        let (to, request) = proposer.requests();
        for (node, acceptor) in acceptors.iter_mut().filter(|(node, _)| to.contains(node)) {
            if up.contains(&node.0) && last == Step::Wait {
                last = proposer.hear(*node, acceptor.hear(&request).reply);
            }
        }
    }
    last
}

fn certificate(step: Step) -> Certificate {
    match step {
        Step::End(Outcome::Chosen(certificate) | Outcome::AnotherWasChosen { certificate, .. }) => {
            certificate
        }
        other => panic!("nothing was chosen: {other:?}"),
    }
}

#[test]
fn alone_a_proposal_is_chosen_by_a_majority_and_its_certificate_verifies() {
    let mut acceptors = acceptors(5);
    let chosen = certificate(run(&mut proposer(7, 1, 5), &mut acceptors, &[1, 3, 5]));
    assert_eq!(chosen.settled(), Settled { decree: OPEN, hash: LayoutHash(7) });
    assert_eq!(chosen.accepted_by, [NodeId(1), NodeId(3), NodeId(5)]);
    assert_eq!(chosen.verify(PARENT, &members(5)), Ok(()));
}

#[test]
fn a_minority_chooses_nothing_and_says_what_may_still_come() {
    let mut acceptors = acceptors(5);
    let mut lonely = proposer(7, 1, 5);
    assert_eq!(run(&mut lonely, &mut acceptors, &[1, 2]), Step::Wait);
    assert_eq!(lonely.give_up(), Outcome::NoQuorum { answered: 2, needed: 3, may_come: false });
    // Three promise, then only two are there to accept: whoever comes next may find it.
    let (_, prepare) = lonely.requests();
    assert_eq!(lonely.hear(NodeId(3), acceptors[2].1.hear(&prepare).reply), Step::Ask);
    assert_eq!(run(&mut lonely, &mut acceptors, &[1, 2]), Step::Wait);
    assert_eq!(lonely.give_up(), Outcome::NoQuorum { answered: 3, needed: 3, may_come: true });
}

#[test]
fn who_comes_second_finishes_what_the_first_has_half_done() {
    let mut acceptors = acceptors(3);
    let mut first = proposer(7, 1, 3);
    let (_, prepare) = first.requests();
    let promises: Vec<Reply> = acceptors.iter_mut().map(|(_, a)| a.hear(&prepare).reply).collect();
    first.hear(NodeId(1), promises[0].clone());
    assert_eq!(first.hear(NodeId(2), promises[1].clone()), Step::Ask);
    let (_, accept) = first.requests();
    assert!(acceptors[0].1.hear(&accept).changed);
    // One has accepted 7 and the first is gone. The second hears of it, but must first get above its ballot's node.
    let mut second = proposer(8, 2, 3);
    let outcome = run(&mut second, &mut acceptors, &[1, 2, 3]);
    let Step::End(Outcome::AnotherWasChosen { proposal: found, certificate }) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(found, proposal(7));
    assert_eq!(certificate.verify(PARENT, &members(3)), Ok(()));
}

#[test]
fn an_acceptor_holds_to_what_it_promised() {
    let mut acceptor = Acceptor::new(PARENT);
    let ballot = |round| Ballot { round, node: NodeId(1), attempt: 5 };
    let prepare = |round| Request::Prepare { decree: OPEN, parent: PARENT.hash, ballot: ballot(round) };
    let accept = |round, hash| Request::Accept {
        decree: OPEN,
        parent: PARENT.hash,
        ballot: ballot(round),
        proposal: proposal(hash),
    };
    assert_eq!(acceptor.hear(&prepare(3)).reply.says, Says::Promise(None));
    assert!(!acceptor.hear(&prepare(3)).changed, "repeated");
    assert_eq!(acceptor.hear(&prepare(2)).reply.says, Says::Outbid(ballot(3)));
    assert_eq!(acceptor.hear(&accept(2, 7)).reply.says, Says::Outbid(ballot(3)));
    assert_eq!(acceptor.hear(&accept(3, 7)).reply.says, Says::Accepted);
    let accepted = Accepted { ballot: ballot(3), proposal: proposal(7) };
    assert_eq!(acceptor.hear(&prepare(4)).reply.says, Says::Promise(Some(accepted)));
}

#[test]
fn only_the_decree_after_the_last_settled_is_open() {
    let mut acceptor = Acceptor::new(PARENT);
    let ballot = Ballot { round: 1, node: NodeId(1), attempt: 5 };
    let ask = |lineage, version, parent| Request::Prepare {
        decree: Decree { lineage, version },
        parent: LayoutHash(parent),
        ballot,
    };
    let two = Settled { decree: OPEN, hash: LayoutHash(7) };
    assert_eq!(acceptor.hear(&ask(0, 3, 7)).reply.says, Says::Behind(PARENT));
    assert_eq!(acceptor.hear(&ask(1, 2, 1)).reply.says, Says::Behind(PARENT), "of a lineage not heard of");
    assert_eq!(acceptor.hear(&ask(0, 2, 9)).reply.says, Says::OtherParent(PARENT));
    assert_eq!(acceptor.settle(two), Ok(true));
    assert_eq!(acceptor.settle(PARENT), Ok(false), "what is late is no news");
    assert_eq!(
        acceptor.settle(Settled { hash: LayoutHash(8), ..two }),
        Err(two),
        "two layouts of one number"
    );
    assert_eq!(acceptor.hear(&ask(0, 2, 1)).reply.says, Says::Settled(two));
    assert_eq!(acceptor.hear(&ask(0, 3, 7)).reply.says, Says::Promise(None));
    // A forced layout opens a lineage and fences the one before.
    let forced = Settled { decree: Decree { lineage: 1, version: 2 }, hash: LayoutHash(9) };
    assert_eq!(acceptor.settle(forced), Ok(true));
    assert_eq!(acceptor.hear(&ask(0, 4, 7)).reply.says, Says::Settled(forced));
    assert_eq!(acceptor.hear(&ask(1, 3, 9)).reply.says, Says::Promise(None));
}

#[test]
fn answers_count_once_and_only_from_members_and_for_the_round() {
    let mut one = proposer(7, 1, 5);
    let promise = |round| Reply {
        decree: OPEN,
        ballot: Ballot { round, node: NodeId(1), attempt: 1000 },
        says: Says::Promise(None),
    };
    assert_eq!(one.hear(NodeId(1), promise(1)), Step::Wait);
    assert_eq!(one.hear(NodeId(1), promise(1)), Step::Wait, "doubled");
    assert_eq!(one.hear(NodeId(6), promise(1)), Step::Wait, "no member");
    assert_eq!(one.hear(NodeId(2), promise(9)), Step::Wait, "of another round");
    assert_eq!(one.hear(NodeId(3), promise(1)), Step::Wait);
    let (to, _) = one.requests();
    assert_eq!(to, [NodeId(2), NodeId(4), NodeId(5)]);
    assert_eq!(one.hear(NodeId(2), promise(1)), Step::Ask);
}

#[test]
fn an_outbid_proposer_stands_back_and_then_bids_higher() {
    let mut acceptors = acceptors(3);
    let (mut low, mut high) = (proposer(7, 1, 3), proposer(8, 2, 3));
    let (_, ahead) = high.requests();
    acceptors.iter_mut().for_each(|(_, acceptor)| _ = acceptor.hear(&ahead));
    assert_eq!(run(&mut low, &mut acceptors, &[1, 2, 3]), Step::StandBack);
    assert!(low.retry());
    assert_eq!(certificate(run(&mut low, &mut acceptors, &[1, 2, 3])).hash, LayoutHash(7));
    assert_eq!(run(&mut high, &mut acceptors, &[1, 2, 3]), Step::StandBack);
    assert!(high.retry());
    assert_eq!(
        certificate(run(&mut high, &mut acceptors, &[1, 2, 3])).hash,
        LayoutHash(7),
        "chosen for ever"
    );
}

#[test]
fn a_certificate_proves_only_what_it_says() {
    let good = Certificate {
        decree: OPEN,
        parent: PARENT.hash,
        hash: LayoutHash(7),
        ballot: Ballot { round: 1, node: NodeId(1), attempt: 5 },
        accepted_by: members(3),
    };
    let five = members(5);
    assert_eq!(good.verify(PARENT, &five), Ok(()));
    let few = Certificate { accepted_by: members(2), ..good.clone() };
    assert_eq!(few.verify(PARENT, &five), Err(BadCertificate::Minority { accepted: 2, needed: 3 }));
    let twice = Certificate { accepted_by: vec![NodeId(1), NodeId(1), NodeId(2)], ..good.clone() };
    assert_eq!(twice.verify(PARENT, &five), Err(BadCertificate::NotAscending));
    let strange = Certificate { accepted_by: vec![NodeId(1), NodeId(2), NodeId(9)], ..good.clone() };
    assert_eq!(strange.verify(PARENT, &five), Err(BadCertificate::Stranger(NodeId(9))));
    let elsewhere = Settled { hash: LayoutHash(2), ..PARENT };
    assert_eq!(good.verify(elsewhere, &five), Err(BadCertificate::NotAfter(elsewhere)));
    assert!(good.contradicts(&Certificate { hash: LayoutHash(8), ..good.clone() }));
    let by_another = Certificate { ballot: Ballot::default(), ..good.clone() };
    assert!(!good.contradicts(&by_another), "two proposers finished the same");

    let mut w = Writer::new();
    write_certificate(&mut w, &good);
    let mut r = Reader::new(w.as_slice());
    assert_eq!(read_certificate(&mut r), Ok(good));
    assert_eq!(r.end(), Ok(()));
}

#[test]
fn what_an_acceptor_wrote_opens_and_damage_is_noticed() {
    let mut acceptor = Acceptor::new(PARENT);
    assert_eq!(Acceptor::decode(&acceptor.encode()), Ok(acceptor.clone()));
    let ballot = Ballot { round: 2, node: NodeId(1), attempt: 5 };
    let accept =
        Request::Accept { decree: OPEN, parent: PARENT.hash, ballot, proposal: proposal(u128::MAX / 3) };
    assert!(acceptor.hear(&accept).changed);
    let bytes = acceptor.encode();
    assert_eq!(Acceptor::decode(&bytes), Ok(acceptor));
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        assert_eq!(Acceptor::decode(&damaged), Err(BadBytes::Checksum));
        assert!(Acceptor::decode(&bytes[..at]).is_err());
    }
    let too_large = Proposal { hash: LayoutHash(1), bytes: vec![0; LAYOUT_BYTES_MAX + 1].into() };
    let mut large = Acceptor::new(PARENT);
    large.hear(&Request::Accept { decree: OPEN, parent: PARENT.hash, ballot, proposal: too_large });
    assert_eq!(Acceptor::decode(&large.encode()), Err(BadBytes::Malformed));
}

/// Everything that can happen: whatever was ever sent may arrive at any time, any number of times, or never. A
/// proposer may act on any majority of promises, begin a new round at any time, or crash, which is never to act
/// again. What was asked to be accepted and what was accepted is never removed, so a world contains its history.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    acceptors: Vec<Acceptor>,
    proposers: Vec<Proposer>,
    /// How often each proposer may still begin anew.
    left: Vec<u8>,
    requests: BTreeSet<Request>,
    /// Replies, and which acceptor gave them.
    replies: BTreeSet<(NodeId, Reply)>,
}

impl World {
    fn new(proposers: &[Proposer], left: &[u8]) -> World {
        World {
            acceptors: vec![Acceptor::new(PARENT); 3],
            proposers: proposers.to_vec(),
            left: left.to_vec(),
            requests: proposers.iter().map(|one| one.requests().1).collect(),
            replies: BTreeSet::new(),
        }
    }

    /// Every world that is one event away.
    fn next(&self) -> Vec<World> {
        let mut worlds = Vec::new();
        for (at, acceptor) in self.acceptors.iter().enumerate() {
            for request in &self.requests {
                let mut acceptor = acceptor.clone();
                let reply = (NodeId(at as u64 + 1), acceptor.hear(request).reply);
                // An `Outbid` tells its proposer nothing but a round to begin above: beginning anew covers it.
                if matches!(reply.1.says, Says::Outbid(_)) || self.replies.contains(&reply) {
                    continue;
                }
                let mut world = self.clone();
                world.acceptors[at] = acceptor;
                world.replies.insert(reply);
                worlds.push(world);
            }
        }
        for at in 0..self.proposers.len() {
            worlds.extend(self.heard(at));
            if self.left[at] > 0 {
                let mut world = self.clone();
                world.left[at] -= 1;
                assert!(world.proposers[at].retry());
                world.requests.insert(world.proposers[at].requests().1);
                worlds.push(world);
            }
        }
        worlds
    }

    /// The worlds in which a proposer has heard two promises and asks to accept.
    fn heard(&self, at: usize) -> Vec<World> {
        let is_promise = |reply: &&(NodeId, Reply)| matches!(reply.1.says, Says::Promise(_));
        let promises: Vec<_> = self.replies.iter().filter(is_promise).collect();
        let mut worlds = Vec::new();
        for (i, one) in promises.iter().enumerate() {
            for other in &promises[i + 1..] {
                let mut proposer = self.proposers[at].clone();
                proposer.hear(one.0, one.1.clone());
                if proposer.hear(other.0, other.1.clone()) == Step::Ask {
                    let mut world = self.clone();
                    world.requests.insert(proposer.requests().1);
                    world.proposers[at] = proposer;
                    worlds.push(world);
                }
            }
        }
        worlds
    }

    /// Forgets what can no longer matter: prepares and promises of a ballot whose proposer has gone on. A late prepare
    /// could only make an acceptor refuse what comes later, which is the same as that being lost.
    fn without_the_past(mut self) -> World {
        let preparing: Vec<Request> = self.proposers.iter().map(|one| one.requests().1).collect();
        self.requests.retain(|one| matches!(one, Request::Accept { .. }) || preparing.contains(one));
        let asked = |ballot: Ballot| {
            let is_it = |one: &Request| matches!(one, Request::Prepare { ballot: b, .. } if *b == ballot);
            preparing.iter().any(is_it)
        };
        self.replies.retain(|(_, reply)| reply.says == Says::Accepted || asked(reply.ballot));
        self
    }

    /// What was ever accepted by a majority under one ballot, whether anyone has heard of it or not.
    fn chosen(&self) -> BTreeSet<LayoutHash> {
        let accepted = |wanted: Ballot| {
            let is_it =
                |(_, reply): &&(NodeId, Reply)| reply.ballot == wanted && reply.says == Says::Accepted;
            self.replies.iter().filter(is_it).count()
        };
        let chosen = |request: &Request| match request {
            Request::Accept { ballot, proposal, .. } if accepted(*ballot) >= majority(3) => {
                Some(proposal.hash)
            }
            _ => None,
        };
        self.requests.iter().filter_map(chosen).collect()
    }
}

/// Visits every world that can be reached; says how many there are, and what was chosen in any of them.
fn explore(world: World) -> (usize, BTreeSet<LayoutHash>) {
    let mut seen = BTreeSet::from([world.clone()]);
    let mut open = vec![world];
    let mut ever = BTreeSet::new();
    while let Some(world) = open.pop() {
        let chosen = world.chosen();
        assert!(chosen.len() <= 1, "two layouts were chosen: {chosen:?}");
        ever.extend(chosen);
        for world in world.next().into_iter().map(World::without_the_past) {
            if seen.insert(world.clone()) {
                open.push(world);
            }
        }
    }
    (seen.len(), ever)
}

#[test]
fn no_order_of_two_proposers_and_three_acceptors_chooses_two() {
    let (worlds, ever) = explore(World::new(&[proposer(7, 1, 3), proposer(8, 2, 3)], &[1, 0]));
    assert_eq!(ever.len(), 2, "either may win");
    assert!(worlds > 20_000, "{worlds} worlds are too few to prove anything");
}

#[test]
fn a_proposer_that_crashed_and_begins_again_with_another_proposal_chooses_no_second() {
    // The one that follows has the same node and begins at the same round; its life tells their ballots apart.
    let again = Proposer::new(PARENT, &members(3), proposal(9), NodeId(1), 4321).expect("version 2 exists");
    let (worlds, ever) = explore(World::new(&[proposer(7, 1, 3), again, proposer(8, 2, 3)], &[0, 0, 0]));
    assert_eq!(ever.len(), 3, "each may win");
    assert!(worlds > 40_000, "{worlds} worlds are too few to prove anything");
}
