//! The Redis door: RESP2 and RESP3 on a port of its own, over the bucket `default`. `docs/redis.md` describes it
//! for those who use it.
//!
//! A connection lives on one shard's thread. Commands that arrive together are started together and answered in
//! order, in one write; one that touches a key which an earlier one of them writes, or writes a key which an
//! earlier one touches, waits for those before it. A key of this shard is served by a plain call, any other
//! crosses once.

mod answer;
mod command;
mod conflicts;
mod errand;
mod glob;
mod session;
mod strings;
mod table;
mod versions;

use super::{Guest, Service};
use crate::mailbox::Door;
use crate::metrics::{Op, ShardMetrics};
use crate::random::Random;
use crate::run::Phase;
use crate::tokio_env::TokioEnv;
use answer::Answer;
use bytes::{Buf, Bytes, BytesMut};
use command::Command;
use futures_util::future::join_all;
use gramme_core::{Key, ring};
use gramme_node::Node;
use gramme_node::request::{Call, Response};
use gramme_wire::Outgoing;
use gramme_wire::resp::{Parser, Replies};
use session::Session;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What connections of one shard share.
#[derive(Clone)]
pub(crate) struct Counter {
    pub(crate) service: Arc<Service>,
    pub(crate) node: Node<TokioEnv>,
    pub(crate) shard: usize,
    pub(crate) metrics: Rc<ShardMetrics>,
    pub(crate) random: Rc<Random>,
}

impl Counter {
    /// Has the shard that owns it serve a call.
    async fn call(&self, key: &Key, call: Call) -> Response {
        let partition = ring::partition_of(key, self.service.partitions());
        let shard = usize::from(partition.0) % self.service.shards.count();
        if shard == self.shard {
            self.service.load.count(&call.request);
            self.node.call(call).await
        } else {
            self.service.shards.call_on(shard, call).await
        }
    }
}

/// Serves one client until it hangs up, breaks the protocol, or this node drains.
pub(crate) async fn serve(counter: Counter, mut socket: TcpStream, guest: Guest) {
    let mut phase = counter.service.phase.clone();
    let mut draining = std::pin::pin!(phase.wait_for(|phase| *phase != Phase::Serving));
    let mut session = Session::new(&counter.service);
    let mut parser = Parser::new();
    let mut buf = BytesMut::new();
    let mut out = Outgoing::new();
    let mut batch = Batch::default();
    while !session.is_over() {
        let whole = take_commands(&counter, &mut session, &mut parser, &mut buf, &mut batch, &mut out).await;
        if out.has_remaining() && socket.write_all_buf(&mut out).await.is_err() {
            break;
        }
        if whole == Taken::Some || session.is_over() {
            continue;
        }
        let missing = parser.missing(&buf);
        if buf.capacity() - buf.len() < READ_BYTES_MIN.max(missing) {
            buf.reserve(READ_BYTES.max(missing));
        }
        let read = tokio::select! {
            read = socket.read_buf(&mut buf) => read,
            _ = &mut draining => break,
        };
        match read {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    drop(guest);
}

/// Whether there may be more commands in the buffer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    /// There may be.
    Some,
    /// More bytes must arrive first.
    All,
}

/// Answers the commands that have arrived whole, up to a bound on what waits to be written.
async fn take_commands(
    counter: &Counter,
    session: &mut Session,
    parser: &mut Parser,
    buf: &mut BytesMut,
    batch: &mut Batch,
    out: &mut Outgoing,
) -> Taken {
    loop {
        if session.is_over() || out.remaining() > UNWRITTEN_BYTES_MAX {
            batch.finish(counter, session, out).await;
            return Taken::Some;
        }
        parser.set_stranger(!session.is_admitted());
        let args = match parser.next(buf) {
            Ok(Some(args)) => args,
            Ok(None) => {
                batch.finish(counter, session, out).await;
                return Taken::All;
            }
            Err(e) => {
                batch.finish(counter, session, out).await;
                Answer::Error(e.to_string()).write(&mut Replies::new(session.version(), out));
                session.end();
                return Taken::Some;
            }
        };
        let started = Instant::now();
        match session.dispatch(counter, &args) {
            session::Dispatched::Data(command) => {
                if !batch.takes(&command) {
                    batch.finish(counter, session, out).await;
                }
                batch.commands.push((command, started));
            }
            session::Dispatched::Session => {
                batch.finish(counter, session, out).await;
                let answer = session.execute(counter, &args).await;
                answer.write(&mut Replies::new(session.version(), out));
                counter.metrics.request(Door::Resp, Op::Other, answer.label(), started.elapsed());
            }
            session::Dispatched::Refused(answer) => {
                batch.finish(counter, session, out).await;
                answer.write(&mut Replies::new(session.version(), out));
                counter.metrics.request(Door::Resp, Op::Other, answer.label(), started.elapsed());
            }
        }
    }
}

/// Commands that may run at the same time.
#[derive(Default)]
struct Batch {
    commands: Vec<(Command, Instant)>,
}

impl Batch {
    /// Whether a command may run beside those that are here.
    fn takes(&self, command: &Command) -> bool {
        self.commands.len() < BATCH_MAX
            && self.commands.iter().all(|(other, _)| {
                let independent = !command.writes() && !other.writes();
                independent || !other.keys().iter().any(|key| command.keys().contains(key))
            })
    }

    /// Runs them all, and answers in order.
    async fn finish(&mut self, counter: &Counter, session: &Session, out: &mut Outgoing) {
        let mut commands = self.commands.drain(..);
        let mut write = |op: Op, started: Instant, answer: Answer| {
            answer.write(&mut Replies::new(session.version(), out));
            counter.metrics.request(Door::Resp, op, answer.label(), started.elapsed());
        };
        match (commands.next(), commands.len()) {
            (None, _) => {}
            (Some((command, started)), 0) => write(command.op(), started, command.run(counter).await),
            (Some(first), _) => {
                let all: Vec<(Command, Instant)> = std::iter::once(first).chain(commands).collect();
                let answers = join_all(all.iter().map(|(command, _)| command.run(counter))).await;
                for ((command, started), answer) in all.iter().zip(answers) {
                    write(command.op(), *started, answer);
                }
            }
        }
    }
}

/// A word of a command, for comparison.
fn word(arg: &Bytes) -> String {
    String::from_utf8_lossy(arg).to_ascii_lowercase()
}

const READ_BYTES: usize = 16 << 10;
const READ_BYTES_MIN: usize = 4 << 10;
/// Commands of one client that run at the same time.
const BATCH_MAX: usize = 64;
/// Answers that may wait while further commands of a pipeline are taken.
const UNWRITTEN_BYTES_MAX: usize = 4 << 20;
