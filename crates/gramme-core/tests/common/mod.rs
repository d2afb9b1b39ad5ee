//! The words that the tests of versions share: short ways to say "a put of this at that replica".
#![allow(dead_code, unreachable_pub)]

use bytes::Bytes;
use gramme_core::record::checksum;
use gramme_core::{Content, Context, Dot, Incarnation, Key, NodeId, Record, RequestId, Sibling, Stamp};

/// The `n`-th event of incarnation `incarnation`.
pub fn dot(incarnation: u64, n: u64) -> Dot {
    Dot::new(Incarnation(incarnation), n)
}

/// A value written as `request` at `dot`, at a millisecond that follows from the dot.
pub fn sibling(dot: Dot, request: u128, value: &str) -> Sibling {
    with_content(dot, request, Content::Value(Bytes::copy_from_slice(value.as_bytes())))
}

/// A delete.
pub fn tombstone(dot: Dot, request: u128) -> Sibling {
    with_content(dot, request, Content::Tombstone)
}

fn with_content(dot: Dot, request: u128, content: Content) -> Sibling {
    Sibling {
        dot,
        checksum: checksum(&content),
        content,
        stamp: Stamp::from_ms(1_700_000_000_000 + dot.n),
        request: RequestId(request),
        author: NodeId(dot.incarnation.0),
        ttl_ms: 0,
        content_type: Bytes::new(),
        meta: Vec::new(),
    }
}

/// A replica's life as far as one key sees it: its record, its incarnation, its counter.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    pub record: Record,
    pub incarnation: u64,
    pub n: u64,
}

impl Replica {
    pub fn new(incarnation: u64) -> Replica {
        Replica { record: Record::new(), incarnation, n: 0 }
    }

    /// Coordinates a put of `value`; gives what the client is answered.
    pub fn put(&mut self, context: &Context, value: &str) -> Context {
        let request = u128::from(self.incarnation) << 64 | u128::from(self.n + 1);
        self.put_as(context, request, value)
    }

    /// The same, under a request id of the client's.
    pub fn put_as(&mut self, context: &Context, request: u128, value: &str) -> Context {
        self.n += 1;
        self.take(context, sibling(dot(self.incarnation, self.n), request, value))
    }

    /// Coordinates a put whose client was shown nothing and that overwrites what is here.
    pub fn put_over_found(&mut self, request: u128, value: &str) {
        self.n += 1;
        let sibling = sibling(dot(self.incarnation, self.n), request, value);
        self.record = self.record.put_over_found(&self.read(), sibling);
    }

    /// Coordinates a delete.
    pub fn delete(&mut self, context: &Context) -> Context {
        self.n += 1;
        let request = u128::from(self.incarnation) << 64 | u128::from(self.n);
        self.take(context, tombstone(dot(self.incarnation, self.n), request))
    }

    fn take(&mut self, context: &Context, sibling: Sibling) -> Context {
        let answer = context.after_put_of(&sibling, NodeId(self.incarnation));
        self.record = self.record.put(context, sibling);
        answer
    }

    /// Merges a record that arrives, minding the tripwire as a replica does: amnesia costs the incarnation.
    pub fn receive(&mut self, record: &Record) {
        if self.record.remembers_less_than(record, Incarnation(self.incarnation)) {
            self.restart();
        }
        self.record = self.record.join(record);
    }

    /// A new life over whatever is still there.
    pub fn restart(&mut self) {
        self.incarnation += 1000;
        self.n = 0;
    }

    /// The key's record is gone, and the replica does not know.
    pub fn forget(&mut self) -> Record {
        std::mem::take(&mut self.record)
    }

    pub fn read(&self) -> Context {
        Context::of(&self.record, None)
    }

    pub fn values(&self) -> Vec<String> {
        values(&self.record)
    }
}

/// The values of a record, sorted, so that they can be compared with what a test expects.
pub fn values(record: &Record) -> Vec<String> {
    let text = |s: &Sibling| match &s.content {
        Content::Value(value) => Some(String::from_utf8_lossy(value).into_owned()),
        Content::Tombstone => None,
    };
    let mut values: Vec<String> = record.siblings().iter().filter_map(text).collect();
    values.sort();
    values
}

/// A record with everything that any of these knows.
pub fn joined<'a>(records: impl IntoIterator<Item = &'a Record>) -> Record {
    records.into_iter().fold(Record::new(), |all, record| all.join(record))
}

pub fn key(name: &str) -> Key {
    Key::new("carts", name.as_bytes()).expect("a test's key is valid")
}

/// So many cases of a property, or as many as PROPTEST_CASES asks for.
pub fn cases(default: u32) -> proptest::test_runner::Config {
    let asked = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    proptest::test_runner::Config::with_cases(asked.unwrap_or(default))
}
