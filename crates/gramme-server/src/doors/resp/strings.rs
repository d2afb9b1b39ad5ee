//! Commands over keys and values: GET, SET, DEL, EXISTS, MGET, MSET.

use super::answer::Answer;
use super::errand::{Errand, plain_put};
use super::word;
use crate::metrics::Op;
use bytes::Bytes;
use futures_util::future::join_all;
use gramme_core::limits::{REQUEST_MS, RESP_COMMAND_BYTES_MAX};
use gramme_core::record::Content;
use gramme_core::{Context, Key, View};
use gramme_wire::{Expect, Failure, Put, Reason};
use std::collections::BTreeSet;

/// One command, its arguments checked.
pub(super) struct Command {
    kind: Kind,
    keys: Vec<Key>,
}

enum Kind {
    Get,
    Mget,
    Exists,
    Del,
    /// One value per key; the time to live is in milliseconds.
    Set {
        values: Vec<Bytes>,
        ttl_ms: Option<u64>,
        /// NX or XX: best effort, as every condition here.
        expect: Option<Expect>,
    },
}

impl Command {
    /// `None` if it is no command over keys; the error is what the client is told.
    pub(super) fn parse(name: &str, args: &[Bytes]) -> Option<Result<Command, Answer>> {
        let all = |kind| keys(&args[1..]).map(|keys| Command { kind, keys });
        Some(match name {
            "get" => all(Kind::Get),
            "mget" => all(Kind::Mget),
            "exists" => all(Kind::Exists),
            "del" => all(Kind::Del),
            "set" => set(args),
            "mset" => mset(args),
            _ => return None,
        })
    }

    /// In the order of the arguments.
    pub(super) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// How it counts.
    pub(super) fn op(&self) -> Op {
        match self.kind {
            Kind::Get | Kind::Mget | Kind::Exists => Op::Get,
            Kind::Set { .. } => Op::Put,
            Kind::Del => Op::Delete,
        }
    }

    /// Runs it.
    pub(super) async fn run(&self, errand: &Errand<'_>) -> Result<Answer, Box<Failure>> {
        match &self.kind {
            Kind::Get => Ok(get(errand, &self.keys[0]).await?.map_or(Answer::Null, Answer::Value)),
            Kind::Mget => self.mget(errand).await,
            Kind::Exists => self.exists(errand).await,
            Kind::Del => self.del(errand).await,
            Kind::Set { values, ttl_ms, expect } => self.set(errand, values, *ttl_ms, *expect).await,
        }
    }

    async fn mget(&self, errand: &Errand<'_>) -> Result<Answer, Box<Failure>> {
        let mut answers = Vec::with_capacity(self.keys.len());
        let mut bytes = 0;
        for keys in self.keys.chunks(TOGETHER) {
            for value in join_all(keys.iter().map(|key| get(errand, key))).await {
                let value = value?;
                bytes += value.as_ref().map_or(0, Bytes::len);
                answers.push(value.map_or(Answer::Null, Answer::Value));
            }
            if bytes > RESP_COMMAND_BYTES_MAX {
                return Ok(Answer::err(format_args!(
                    "the values have more than {RESP_COMMAND_BYTES_MAX} bytes together: ask for fewer keys at once"
                )));
            }
        }
        Ok(Answer::Array(answers))
    }

    /// A key that is named twice counts twice, as in Redis.
    async fn exists(&self, errand: &Errand<'_>) -> Result<Answer, Box<Failure>> {
        let mut count = 0;
        for keys in self.keys.chunks(TOGETHER) {
            for value in join_all(keys.iter().map(|key| get(errand, key))).await {
                count += i64::from(value?.is_some());
            }
        }
        Ok(Answer::Integer(count))
    }

    /// Answers with how many of the keys were there: each is read first, and what was read is covered.
    async fn del(&self, errand: &Errand<'_>) -> Result<Answer, Box<Failure>> {
        let distinct: Vec<&Key> = self.keys.iter().collect::<BTreeSet<_>>().into_iter().collect();
        let mut count = 0;
        for keys in distinct.chunks(TOGETHER) {
            let deleted = join_all(keys.iter().map(async |key| {
                let got = errand.read(key).await?;
                match got.record.view(got.mode, got.now_ms) {
                    View::Missing | View::Deleted => Ok::<_, Box<Failure>>(0),
                    View::One(_) | View::Siblings(_) => {
                        write(errand, key, Content::Tombstone, None, Some(got.context), None).await?;
                        Ok(1)
                    }
                }
            }));
            for one in deleted.await {
                count += one?;
            }
        }
        Ok(Answer::Integer(count))
    }

    async fn set(
        &self,
        errand: &Errand<'_>,
        values: &[Bytes],
        ttl_ms: Option<u64>,
        expect: Option<Expect>,
    ) -> Result<Answer, Box<Failure>> {
        if let ([key], [value]) = (&self.keys[..], values) {
            return match write(errand, key, Content::Value(value.clone()), ttl_ms, None, expect).await {
                Ok(()) => Ok(Answer::Ok),
                Err(failure) if failure.reason == Reason::Unexpected => Ok(Answer::Null),
                Err(failure) => Err(failure),
            };
        }
        // Of a key that is named twice the last value stays, as in Redis.
        let last = |at: usize| !self.keys[at + 1..].contains(&self.keys[at]);
        let wanted: Vec<usize> = (0..self.keys.len()).filter(|&at| last(at)).collect();
        for some in wanted.chunks(TOGETHER) {
            let written = join_all(some.iter().map(|&at| {
                write(errand, &self.keys[at], Content::Value(values[at].clone()), ttl_ms, None, None)
            }));
            for one in written.await {
                one?;
            }
        }
        Ok(Answer::Ok)
    }
}

/// The value as Redis would have it: of several siblings the last written.
async fn get(errand: &Errand<'_>, key: &Key) -> Result<Option<Bytes>, Box<Failure>> {
    let got = errand.read(key).await?;
    let now_ms = got.now_ms;
    let shown = match got.record.view(got.mode, now_ms) {
        View::Missing | View::Deleted => None,
        View::One(sibling) => Some(sibling),
        View::Siblings(values) => values.into_iter().max_by_key(|sibling| (sibling.stamp, sibling.dot)),
    };
    Ok(shown.and_then(|sibling| sibling.live_value(now_ms).cloned()))
}

async fn write(
    errand: &Errand<'_>,
    key: &Key,
    content: Content,
    ttl_ms: Option<u64>,
    context: Option<Context>,
    expect: Option<Expect>,
) -> Result<(), Box<Failure>> {
    let put = Put { ttl_ms, context, expect, ..plain_put(key.clone(), content, errand.request()) };
    errand.write(put, REQUEST_MS).await.map(drop)
}

fn keys(args: &[Bytes]) -> Result<Vec<Key>, Answer> {
    args.iter().map(|arg| Key::new(BUCKET, arg).map_err(Answer::err)).collect()
}

fn set(args: &[Bytes]) -> Result<Command, Answer> {
    let mut ttl_ms = None;
    let mut expect = None;
    let mut options = args[3..].iter();
    while let Some(option) = options.next() {
        let factor = match &*word(option) {
            "ex" => 1000,
            "px" => 1,
            condition @ ("nx" | "xx") if expect.is_none() => {
                expect = Some(if condition == "nx" { Expect::Absent } else { Expect::Present });
                continue;
            }
            known @ ("get" | "keepttl" | "exat" | "pxat") => {
                return Err(Answer::err(format_args!(
                    "the option {} of SET is not supported: use EX, PX, NX, XX or none",
                    known.to_ascii_uppercase()
                )));
            }
            _ => return Err(Answer::err("syntax error")),
        };
        let Some(time) = options.next().filter(|_| ttl_ms.is_none()) else {
            return Err(Answer::err("syntax error"));
        };
        ttl_ms = match time_ms("set", time, factor)? {
            0 => return Err(bad_time("set")),
            ms => Some(ms),
        };
    }
    Ok(Command {
        kind: Kind::Set { values: vec![args[2].clone()], ttl_ms, expect },
        keys: keys(&args[1..2])?,
    })
}

fn mset(args: &[Bytes]) -> Result<Command, Answer> {
    if args.len().is_multiple_of(2) {
        return Err(Answer::err("wrong number of arguments for 'mset' command"));
    }
    let values = args[1..].chunks_exact(2).map(|pair| pair[1].clone()).collect();
    let named: Vec<Bytes> = args[1..].chunks_exact(2).map(|pair| pair[0].clone()).collect();
    Ok(Command { kind: Kind::Set { values, ttl_ms: None, expect: None }, keys: keys(&named)? })
}

/// The time to live that follows EX or PX, in units of `factor` milliseconds.
pub(super) fn time_ms(command: &str, time: &[u8], factor: u64) -> Result<u64, Answer> {
    let time = std::str::from_utf8(time).ok().and_then(|text| text.parse::<i64>().ok());
    let Some(time) = time else { return Err(Answer::err("value is not an integer or out of range")) };
    let ms = u64::try_from(time).ok().and_then(|time| time.checked_mul(factor));
    ms.filter(|&ms| ms < TTL_MS_MAX).ok_or_else(|| bad_time(command))
}

fn bad_time(command: &str) -> Answer {
    Answer::err(format_args!("invalid expire time in '{command}' command"))
}

/// Where the Redis door keeps its keys.
pub(super) const BUCKET: &str = "default";
/// Keys of one command that are worked on at the same time.
const TOGETHER: usize = 64;
/// Past it the sum of a stamp and a time to live would leave the range of stamps.
const TTL_MS_MAX: u64 = 1 << 46;
