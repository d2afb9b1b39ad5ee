//! What is done to the cluster: one thing at a time, to one node or the links between two.

use super::ground::{Ground, copy_dir, remove_dir};
use super::load::Rng;
use super::proxy::Link;
use crate::failure::Failure;
use clap::ValueEnum;
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Fault {
    /// Kill a node (SIGKILL) and start it again (C1)
    Kill,
    /// Freeze a node (SIGSTOP), then let it go on (C2)
    Stop,
    /// Cut links: all of one node, those from or to it, or between two nodes that a third still sees (C7)
    Cut,
    /// Make all links of one node slow (C8)
    Slow,
    /// Kill a node, empty its directory, start it again (C9)
    Wipe,
    /// Kill a node, put an old copy of its directory in place, start it again (C10)
    OldCopy,
}

impl Fault {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Stop => "stop",
            Fault::Cut => "cut",
            Fault::Slow => "slow",
            Fault::Wipe => "wipe",
            Fault::OldCopy => "old-copy",
        }
    }
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// How long a fault lasts, unless it is said otherwise.
    pub(super) hold: Duration,
    /// How long a node is frozen.
    pub(super) stop: Duration,
    /// How old the copy of a directory is when it comes back.
    pub(super) copy_age: Duration,
}

/// A fault that was drawn for a round.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) fault: Fault,
    node: usize,
    cut: Vec<((usize, usize), Link)>,
    /// In words, for the table.
    pub(super) what: String,
    /// When the copy of the directory was taken.
    copied: Option<Instant>,
}

/// Draws a fault of this kind.
pub(super) fn draw(fault: Fault, nodes: usize, rng: &mut Rng) -> Plan {
    let node = rng.below(nodes as u32) as usize;
    let others = || (0..nodes).filter(move |other| *other != node);
    let other = (node + 1 + rng.below(nodes as u32 - 1) as usize) % nodes;
    let both = |a: usize, b: usize, link: Link| [((a, b), link), ((b, a), link)];
    let plain = |what: String| (Vec::new(), what);
    let (cut, what) = match fault {
        Fault::Kill => plain(format!("kill -9 node {node}")),
        Fault::Stop => plain(format!("SIGSTOP node {node}")),
        Fault::Wipe => plain(format!("wipe node {node}")),
        Fault::OldCopy => plain(format!("old copy of node {node}")),
        Fault::Slow => {
            let late = Link::Late(SLOW);
            let links = others().flat_map(|other| both(node, other, late)).collect();
            (links, format!("{} ms on all links of node {node}", SLOW.as_millis()))
        }
        Fault::Cut => match rng.below(5) {
            0 => (
                others().flat_map(|other| both(node, other, Link::Held)).collect(),
                format!("node {node} cut off"),
            ),
            1 => (
                others().flat_map(|other| both(node, other, Link::Refused)).collect(),
                format!("node {node} refused by all"),
            ),
            2 => (
                others().map(|other| ((node, other), Link::Held)).collect(),
                format!("node {node} hears, is not heard"),
            ),
            3 => (
                others().map(|other| ((other, node), Link::Held)).collect(),
                format!("node {node} is heard, hears nothing"),
            ),
            _ => (both(node, other, Link::Held).to_vec(), format!("nodes {node} and {other} cut apart")),
        },
    };
    Plan { fault, node, cut, what, copied: None }
}

impl Plan {
    /// What must be done before the load begins.
    pub(super) async fn prepare(&mut self, ground: &mut Ground) -> Result<(), Failure> {
        if self.fault == Fault::OldCopy {
            // Of a node that is down, as somebody would take it who then puts it back.
            let copy = ground.aside("old-copy");
            remove_dir(&copy)?;
            ground.kill(self.node).await;
            copy_dir(&ground.data(self.node), &copy)?;
            ground.restart(self.node).await?;
            self.copied = Some(Instant::now());
        }
        Ok(())
    }

    /// How long to wait under load before the fault.
    pub(super) fn lead(&self, usual: Duration, times: &Times) -> Duration {
        let age = self.copied.map(|at| times.copy_age.saturating_sub(at.elapsed()));
        usual.max(age.unwrap_or_default())
    }

    /// Does it and undoes it. Gives the time that a node took from its start until it served.
    pub(super) async fn inflict(
        &self,
        ground: &mut Ground,
        times: &Times,
    ) -> Result<Option<Duration>, Failure> {
        let node = self.node;
        match self.fault {
            Fault::Kill => {
                ground.kill(node).await;
                sleep(times.hold).await;
                ground.restart(node).await.map(Some)
            }
            Fault::Wipe => {
                ground.kill(node).await;
                sleep(times.hold).await;
                remove_dir(&ground.data(node))?;
                ground.restart(node).await.map(Some)
            }
            Fault::OldCopy => {
                ground.kill(node).await;
                sleep(times.hold).await;
                remove_dir(&ground.data(node))?;
                copy_dir(&ground.aside("old-copy"), &ground.data(node))?;
                ground.restart(node).await.map(Some)
            }
            Fault::Stop => {
                ground.signal(node, Signal::STOP);
                sleep(times.stop).await;
                ground.signal(node, Signal::CONT);
                Ok(None)
            }
            Fault::Cut | Fault::Slow => {
                ground.network.set(self.cut.iter().copied());
                sleep(times.hold).await;
                ground.network.heal();
                Ok(None)
            }
        }
    }
}

/// What C8 makes of a link.
const SLOW: Duration = Duration::from_millis(300);
