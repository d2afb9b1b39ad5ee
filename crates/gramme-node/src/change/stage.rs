//! What administrators want changed: staged at this node, durable here, and told to everyone; and what committing it
//! would come to. Names are turned into nodes here, and whatever cannot be is declined in one sentence; then nothing has
//! changed.

use crate::env::Env;
use crate::node::Node;
use crate::request::{Health, Planned, Wanted};
use gramme_core::gossip::{Entry, Name, NodeFact};
use gramme_core::layout::plan::{self, BadPlan, zones_at_least};
use gramme_core::layout::staged::{Change, Staged};
use gramme_core::limits::STAGE_MS;
use gramme_core::{Layout, Member, NodeId, Stamp};
use std::sync::Arc;
use std::time::Duration;

/// Stages a change.
pub(crate) async fn stage<E: Env>(node: &Node<E>, wanted: &Wanted) -> Result<(), String> {
    may_change(node)?;
    let (_, head) = head(node);
    let (about, change) = change_of(node, &head, wanted)?;
    let mut all = staged(node, &head);
    let stamp = stamp_after(node, &all);
    all.stage(&head, about, change, stamp, node.id()).map_err(|bad| bad.to_string())?;
    publish(node, &all, stamp).await
}

/// Takes back all that is staged.
pub(crate) async fn unstage<E: Env>(node: &Node<E>) -> Result<(), String> {
    may_change(node)?;
    let (_, head) = head(node);
    let mut all = staged(node, &head);
    let stamp = stamp_after(node, &all);
    all.clear(&head, stamp, node.id()).map_err(|bad| bad.to_string())?;
    publish(node, &all, stamp).await
}

/// What committing all that is staged would do.
pub(crate) fn planned<E: Env>(node: &Node<E>) -> Result<Planned, String> {
    may_change(node)?;
    let (after, head) = head(node);
    let plan = plan::plan(&head, &staged(node, &head)).map_err(|bad| match bad {
        BadPlan::Nothing => {
            "nothing is staged, and every share is as it should be: stage a change first, such as `gramme cluster join NODE`".to_string()
        }
        bad => bad.to_string(),
    })?;
    let is_live = |id: NodeId| node.health(id) != Health::Down;
    let live_homes_kept = plan.live_homes_kept(is_live);
    let zones = (zones_at_least(&head), zones_at_least(plan.last()));
    Ok(Planned { plan, after, live_homes_kept, zones })
}

/// The layout that the next commit follows.
pub(crate) fn head<E: Env>(node: &Node<E>) -> (gramme_core::paxos::Decree, Arc<Layout>) {
    let chain = node.0.changing.chain.borrow();
    let (decree, layout) = chain.head();
    (decree, layout.clone())
}

/// Everything that is known to be staged.
pub(crate) fn staged<E: Env>(node: &Node<E>, head: &Layout) -> Staged {
    let mut all = Staged::new();
    for (name, entry) in node.0.cluster.known().entries() {
        if matches!(name, Name::Staged(_))
            && let Ok(one) = Staged::decode(&entry.bytes)
        {
            all.merge(&one);
        }
    }
    all.forget(head);
    all
}

/// Whether an entry of gossip is one staged change under its own name.
pub(crate) fn is_sound(name: &Name, entry: &Entry) -> bool {
    let Name::Staged(key) = name else { return false };
    let Ok(one) = Staged::decode(&entry.bytes) else { return false };
    let named = one.singles().next().is_some_and(|(own, _)| own == key[..]);
    named && one.single() == Some((entry.stamp, NodeId(entry.tie)))
}

/// Whether this node may say anything about the ring at all.
pub(crate) fn may_change<E: Env>(node: &Node<E>) -> Result<(), String> {
    let changing = &node.0.changing;
    let chain = changing.chain.borrow();
    if let Some(decree) = chain.contradiction() {
        return Err(format!(
            "two layouts are known for {decree}, which no sound cluster has: nothing may be changed before somebody has looked, see `gramme cluster history`"
        ));
    }
    let head = chain.head().1;
    if head.removed().contains(&node.id()) || node.0.shunned.get() {
        return Err("this node was removed from the cluster: ask a member".to_string());
    }
    if head.member(node.id()).is_none() {
        return Err("this node is no member yet, it only asks to join: ask a member".to_string());
    }
    Ok(())
}

fn stamp_after<E: Env>(node: &Node<E>, all: &Staged) -> Stamp {
    let now = node.0.hlc.borrow_mut().next(node.0.env.wall_ms());
    now.max(Stamp(all.latest().0.saturating_add(1)))
}

/// Makes what was said with this stamp durable, and tells everyone.
async fn publish<E: Env>(node: &Node<E>, all: &Staged, stamp: Stamp) -> Result<(), String> {
    let fresh = all.singles().filter(|(_, one)| one.single() == Some((stamp, node.id())));
    let entries: Vec<(Name, Entry)> = fresh
        .map(|(key, one)| {
            let entry = Entry { stamp, tie: node.id().0, bytes: one.encode().into() };
            (Name::Staged(key.into()), entry)
        })
        .collect();
    let names: Vec<(Name, Entry)> = entries.clone();
    for (name, entry) in entries {
        if !node.0.cluster.keep(name, entry) {
            return Err("this node has as much news as it can hold: try again".to_string());
        }
    }
    let is_known = || {
        let known = node.0.cluster.known();
        names.iter().all(|(name, entry)| known.get(name).is_some_and(|known| known >= entry)).then_some(())
    };
    let until = node.0.env.now() + Duration::from_millis(STAGE_MS);
    match node.until(until, &node.0.changing.news, is_known).await {
        Some(()) => Ok(()),
        None => {
            Err("the change could not be made durable here in time: it may or may not be staged, look again"
                .to_string())
        }
    }
}

fn change_of<E: Env>(node: &Node<E>, head: &Layout, wanted: &Wanted) -> Result<(NodeId, Change), String> {
    Ok(match wanted {
        Wanted::Join { node: who, weight, zone } => {
            let new = newcomer(node, head, who, weight.unwrap_or(1), zone.as_deref())?;
            (new.id, Change::Join(new))
        }
        Wanted::Leave { node: who, lost } => {
            let id = member_named(node, head, who)?;
            if *lost && is_up(node, id) {
                return Err(format!(
                    "{who} is up, so it is not lost: stage its leave without --lost, and it hands over what it has"
                ));
            }
            (id, if *lost { Change::Lost } else { Change::Leave })
        }
        Wanted::Replace { old, new, force } => {
            let id = member_named(node, head, old)?;
            let up = is_up(node, id);
            if up && !force {
                return Err(format!(
                    "{old} is up, and a node that is up need not be replaced: stage its leave and a join instead, or add --force to have {new} take its place and {old} hand over what it has"
                ));
            }
            let weight = head.member(id).map_or(1, |member| member.weight);
            let zone = head.member(id).map(|member| member.zone.clone());
            let new = newcomer(node, head, new, weight, zone.as_deref())?;
            (id, if up { Change::Replace(new) } else { Change::ReplaceLost(new) })
        }
        Wanted::Weight { node: who, weight } => (known_named(node, head, who)?, Change::Weight(*weight)),
        Wanted::Zone { node: who, zone } => (known_named(node, head, who)?, Change::Zone(zone.clone())),
    })
}

/// Whether a member is not down, as this node sees it.
fn is_up<E: Env>(node: &Node<E>, id: NodeId) -> bool {
    node.health(id) != Health::Down
}

/// The node that is to come, as it describes itself.
fn newcomer<E: Env>(
    node: &Node<E>,
    head: &Layout,
    who: &str,
    weight: u32,
    zone: Option<&str>,
) -> Result<Member, String> {
    let id = known_named(node, head, who)?;
    if head.removed().contains(&id) {
        return Err(format!(
            "{who} was removed from this cluster and cannot come back: give it an empty data directory and a new node.id, and start it with --join again"
        ));
    }
    if let Some(member) = head.member(id) {
        return Err(format!("{} is a member of this cluster already", member.name));
    }
    let fact = fact_of(node, id).ok_or_else(|| nobody(node, head, who))?;
    Ok(Member {
        id,
        name: fact.name,
        address: fact.address,
        http: fact.http,
        zone: zone.map_or(fact.zone, str::to_string),
        weight,
    })
}

fn fact_of<E: Env>(node: &Node<E>, id: NodeId) -> Option<NodeFact> {
    let known = node.0.cluster.known();
    known.get(&Name::Node(id)).and_then(|entry| NodeFact::read(entry).ok())
}

fn member_named<E: Env>(node: &Node<E>, head: &Layout, who: &str) -> Result<NodeId, String> {
    let id = known_named(node, head, who)?;
    match head.member(id) {
        Some(_) => Ok(id),
        None if head.removed().contains(&id) => Err(format!("{who} was removed from this cluster already")),
        None => Err(format!("{who} is no member of this cluster: it only asks to join")),
    }
}

/// A node by its id or name: a member first, then one that is only known.
fn known_named<E: Env>(node: &Node<E>, head: &Layout, who: &str) -> Result<NodeId, String> {
    let members = head.members().iter().map(|member| (member.id, member.name.clone()));
    let known = node.nodes_known();
    let others = known.iter().map(|known| (known.node, known.fact.name.clone()));
    let others = others.filter(|(id, _)| head.member(*id).is_none());
    let matches = |(id, name): &(NodeId, String)| name == who || id.to_string() == who;
    let found: Vec<(NodeId, String)> = members.filter(matches).collect();
    let found = if found.is_empty() { others.filter(matches).collect() } else { found };
    match found[..] {
        [(id, _)] => Ok(id),
        [] => Err(nobody(node, head, who)),
        _ => {
            let ids: Vec<String> = found.iter().map(|(id, _)| id.to_string()).collect();
            Err(format!("{} nodes are called {who}: name one by its id, {}", found.len(), ids.join(" or ")))
        }
    }
}

fn nobody<E: Env>(node: &Node<E>, head: &Layout, who: &str) -> String {
    let members: Vec<&str> = head.members().iter().map(|member| member.name.as_str()).collect();
    let asking: Vec<String> =
        super::status::asking(node, head).into_iter().map(|known| known.fact.name).collect();
    let asking = match asking.is_empty() {
        true => "none asks to join: start one with `gramme server --join SEED`".to_string(),
        false => format!("asking to join: {}", asking.join(", ")),
    };
    format!("no node is called {who}: members are {}; {asking}", members.join(", "))
}
