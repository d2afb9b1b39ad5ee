//! What one command asks of the cluster: reads and writes with the levels that its connection chose, and the steps
//! they took if somebody wants to know.

use super::Counter;
use crate::doors::failure_of;
use bytes::Bytes;
use gramme_core::bucket::Level;
use gramme_core::limits::REQUEST_MS;
use gramme_core::record::Content;
use gramme_core::{Key, RequestId};
use gramme_node::request::{Call, Get, Got, Request, Response};
use gramme_wire::{Done, Failure, Put};
use std::cell::RefCell;

/// Answers to wait for where a command does not say so; `None` leaves it to the bucket.
#[derive(Clone, Copy, Default)]
pub(super) struct Levels {
    pub(super) r: Option<Level>,
    pub(super) w: Option<Level>,
}

/// See the module.
pub(super) struct Errand<'c> {
    pub(super) counter: &'c Counter,
    levels: Levels,
    /// Lines, if they are wanted.
    steps: Option<RefCell<Vec<String>>>,
}

impl Errand<'_> {
    /// An errand that has done nothing yet; whether its steps are wanted.
    pub(super) fn new(counter: &Counter, levels: Levels, explain: bool) -> Errand<'_> {
        Errand { counter, levels, steps: explain.then(RefCell::default) }
    }

    /// The steps that were taken.
    pub(super) fn into_steps(self) -> Vec<String> {
        self.steps.map(RefCell::into_inner).unwrap_or_default()
    }

    /// A read as its command asks for it, if that is more than the plainest.
    pub(super) async fn read_as(&self, get: Get, timeout_ms: u64) -> Result<Got, Box<Failure>> {
        let get = Get { r: get.r.or(self.levels.r), explain: self.steps.is_some(), ..get };
        let key = get.key.clone();
        match self.counter.call(&key, Call { timeout_ms, request: Request::Get(get) }).await {
            Response::Got(got) => {
                self.note(&key, &got.explain);
                Ok(*got)
            }
            other => Err(self.failed(&key, other)),
        }
    }

    /// The plainest read.
    pub(super) async fn read(&self, key: &Key) -> Result<Got, Box<Failure>> {
        self.read_as(plain_get(key.clone()), REQUEST_MS).await
    }

    /// A write.
    pub(super) async fn write(&self, put: Put, timeout_ms: u64) -> Result<Done, Box<Failure>> {
        let put = Put { w: put.w.or(self.levels.w), explain: self.steps.is_some(), ..put };
        let key = put.key.clone();
        match self.counter.call(&key, Call { timeout_ms, request: Request::Put(Box::new(put)) }).await {
            Response::Done(done) => {
                self.note(&key, &done.explain);
                Ok(*done)
            }
            other => Err(self.failed(&key, other)),
        }
    }

    /// A name for a write that its client gave none.
    pub(super) fn request(&self) -> RequestId {
        let random = &self.counter.random;
        RequestId(u128::from(random.word()) << 64 | u128::from(random.word()))
    }

    fn failed(&self, key: &Key, response: Response) -> Box<Failure> {
        let failure = failure_of(response);
        self.note(key, &failure.explain);
        failure
    }

    fn note(&self, key: &Key, steps: &[String]) {
        if let Some(lines) = &self.steps {
            let key = String::from_utf8_lossy(key.key());
            lines.borrow_mut().extend(steps.iter().map(|step| format!("{key}: {step}")));
        }
    }
}

/// A read that leaves everything to the bucket.
pub(super) fn plain_get(key: Key) -> Get {
    Get { key, r: None, pr: 0, min: None, explain: false }
}

/// A write that leaves everything to the bucket.
pub(super) fn plain_put(key: Key, content: Content, request: RequestId) -> Put {
    Put {
        key,
        content,
        content_type: Bytes::new(),
        meta: Vec::new(),
        ttl_ms: None,
        context: None,
        w: None,
        pw: 0,
        request,
        retry: false,
        buffered: None,
        expect: None,
        explain: false,
    }
}
