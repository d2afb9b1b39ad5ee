//! Coordinating for a client: one short flow per kind of request, each on one screen.
//!
//! [`get`](get::get) asks the R best replicas, [`put`](put::put) writes here and to all homes, and
//! [`list`](list::list) joins pages of R replicas. None of them retries on behalf of a client: only clients
//! retry, once, with the same request id.

mod choose;
mod condition;
mod copy;
mod explain;
mod forward;
mod get;
mod list;
mod locate;
mod put;
mod quorums;
mod repair;
mod restore;
mod seats;
mod spread;

pub(crate) use copy::copy;
pub(crate) use get::get;
pub(crate) use list::list;
pub(crate) use locate::locate;
pub(crate) use put::{Rest, bury, put_here};
pub(crate) use repair::Repairs;
pub(crate) use restore::restore;

use crate::env::{Env, Mono};
use crate::node::Node;
use gramme_core::Quorum;
use gramme_core::limits::FALLBACK_AFTER_MS_MAX;
use gramme_wire::{Acks, Done, Failure, Put};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;
use tokio::sync::oneshot;

/// An answer that has not come after so long is not waited for alone: the next replica is asked.
const OVERDUE: Duration = Duration::from_millis(FALLBACK_AFTER_MS_MAX);

/// What `work` comes to, or `None` if that takes past the deadline; it is then dropped where it stands.
async fn within<E: Env, T>(node: &Node<E>, deadline: Mono, work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    // Most work needs no timer.
    if let Poll::Ready(done) = poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await {
        return Some(done);
    }
    let mut timer = pin!(node.0.env.sleep_until(deadline));
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// The count as it is told to clients.
fn acks(quorum: &Quorum) -> Acks {
    Acks { homes: quorum.homes() as u8, fallbacks: quorum.fallbacks() as u8 }
}

/// Has a put coordinated, here or by a node that may. Answers through `answer`; what it resolves with is the
/// rest of the work, which goes on after the answer.
pub(crate) async fn put<E: Env>(
    node: &Node<E>,
    put: Put,
    deadline: Mono,
    answer: oneshot::Sender<Result<Done, Failure>>,
) -> Rest<E> {
    let (result, rest) = forward::put_somewhere(node, put, deadline).await;
    // Nobody listens any more if the client has gone away.
    let _ = answer.send(result);
    rest
}
