//! GRAMME.GET, GRAMME.PUT, GRAMME.RESOLVE and GRAMME.DEL: siblings and contexts, for clients of the Redis protocol.
//! What HTTP says in headers they say in options and maps, under the same names and with the same limits.

use super::answer::Answer;
use super::errand::{Errand, plain_get, plain_put};
use super::strings::{BUCKET, time_ms};
use super::word;
use crate::doors::{Service, words};
use crate::metrics::{self, Op};
use crate::time;
use bytes::Bytes;
use gramme_core::limits::{REQUEST_MS, REQUEST_MS_MAX};
use gramme_core::record::{Content, tag_of};
use gramme_core::{Context, Key, RequestId, Sibling, View};
use gramme_node::request::{Get, Got};
use gramme_wire::{Done, Expect, Failure, Put, Reason};

/// One command, its arguments checked.
pub(super) struct Command {
    key: Key,
    timeout_ms: u64,
    what: What,
}

enum What {
    Get(Get),
    Put(Put),
    /// Without a context it covers what a read sees first.
    Delete(Put),
}

impl Command {
    /// `None` if it is none of these; the error is what the client is told.
    pub(super) fn parse(name: &str, args: &[Bytes], service: &Service) -> Option<Result<Command, Answer>> {
        Some(match name {
            "gramme.get" => get(args, service),
            "gramme.put" => put("GRAMME.PUT", &args[1], &args[2], &args[3..], service),
            "gramme.resolve" => resolve(args, service),
            "gramme.del" => delete(args, service),
            _ => return None,
        })
    }

    /// The key that it is about.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// How it counts.
    pub(super) fn op(&self) -> Op {
        match self.what {
            What::Get(_) => Op::Get,
            What::Put(_) => Op::Put,
            What::Delete(_) => Op::Delete,
        }
    }

    /// Runs it.
    pub(super) async fn run(&self, errand: &Errand<'_>) -> Result<Answer, Box<Failure>> {
        match &self.what {
            What::Get(get) => {
                let got = errand.read_as(get.clone(), self.timeout_ms).await?;
                Ok(shown(&errand.counter.service, &self.key, &got))
            }
            What::Put(put) => self.write(errand, put, put.context.clone()).await,
            What::Delete(put) => {
                let mut context = put.context.clone();
                if context.is_none()
                    && put.expect.is_none()
                    && !errand.counter.service.requires_context(&self.key).await?
                {
                    let got = errand.read_as(plain_get(self.key.clone()), self.timeout_ms).await?;
                    let is_there =
                        matches!(got.record.view(got.mode, got.now_ms), View::One(_) | View::Siblings(_));
                    if !is_there && got.record.sibling_of(put.request).is_none() {
                        return Ok(Answer::Null);
                    }
                    context = Some(got.context);
                }
                self.write(errand, put, context).await
            }
        }
    }

    /// As SET NX does, a write whose condition does not hold answers with nothing.
    async fn write(
        &self,
        errand: &Errand<'_>,
        put: &Put,
        context: Option<Context>,
    ) -> Result<Answer, Box<Failure>> {
        // Whoever was given no name for the write does not send it again.
        let request = if put.request == RequestId::default() { errand.request() } else { put.request };
        let put = Put { context, request, ..put.clone() };
        match errand.write(put, self.timeout_ms).await {
            Ok(done) => Ok(written(&errand.counter.service, &self.key, request, &done)),
            Err(failure) if failure.reason == Reason::Unexpected => Ok(Answer::Null),
            Err(failure) => Err(failure),
        }
    }
}

/// What a read found, whole: all siblings, tombstones among them, whatever the mode of the bucket.
fn shown(service: &Service, key: &Key, got: &Got) -> Answer {
    let view = got.record.view(got.mode, got.now_ms);
    let (deleted, counts) = match view {
        View::Missing => (false, metrics::Answer::NotFound),
        View::Deleted => (true, metrics::Answer::NotFound),
        View::One(_) => (false, metrics::Answer::Ok),
        View::Siblings(_) => (false, metrics::Answer::Siblings),
    };
    // A reader who has seen nothing has no context to give back.
    let known = view != View::Missing;
    let context = known.then(|| got.context.to_token(key, &service.company.secret));
    let etag = known.then(|| tag_text(got.record.tag()));
    let siblings = got.record.siblings().iter().map(|sibling| one(sibling, got.now_ms)).collect();
    let map = Answer::Map(vec![
        pair("context", text_or_null(context)),
        pair("etag", text_or_null(etag)),
        pair("deleted", Answer::Boolean(deleted)),
        pair("siblings", Answer::Array(siblings)),
        pair("acks", Answer::Integer(got.acks.total().into())),
        pair("homes", Answer::Integer(got.acks.homes.into())),
        pair("fallbacks", Answer::Integer(got.acks.fallbacks.into())),
    ]);
    Answer::Counted(counts, Box::new(map))
}

fn one(sibling: &Sibling, now_ms: u64) -> Answer {
    let value = sibling.live_value(now_ms);
    let bytes = |bytes: &Bytes| Answer::Value(bytes.clone());
    Answer::Map(vec![
        pair("id", Answer::Text(sibling.dot.to_string())),
        pair("value", value.map_or(Answer::Null, bytes)),
        pair("deleted", Answer::Boolean(value.is_none())),
        pair("content_type", bytes(&sibling.content_type)),
        pair(
            "meta",
            Answer::Map(sibling.meta.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()),
        ),
        pair("time", Answer::Text(time::iso(sibling.stamp.ms()))),
        pair("expires", text_or_null(sibling.expires_ms().map(time::iso))),
        pair("node", Answer::Text(sibling.author.to_string())),
    ])
}

/// What became of a write.
fn written(service: &Service, key: &Key, request: RequestId, done: &Done) -> Answer {
    // With siblings beside it the tag of the key is not this write's alone.
    let etag = (done.siblings == 1 && done.dot.n > 0).then(|| tag_text(tag_of([done.dot])));
    Answer::Map(vec![
        pair("context", Answer::Text(done.context.to_token(key, &service.company.secret))),
        pair("etag", text_or_null(etag)),
        pair("siblings", Answer::Integer(done.siblings.into())),
        pair("acks", Answer::Integer(done.acks.total().into())),
        pair("homes", Answer::Integer(done.acks.homes.into())),
        pair("fallbacks", Answer::Integer(done.acks.fallbacks.into())),
        pair("buffered", Answer::Boolean(done.buffered)),
        pair("id", Answer::Text(request.to_string())),
        pair("node", Answer::Text(done.coordinator.to_string())),
    ])
}

fn pair(name: &str, value: Answer) -> (Answer, Answer) {
    (Answer::Text(name.into()), value)
}

fn text_or_null(text: Option<String>) -> Answer {
    text.map_or(Answer::Null, Answer::Text)
}

fn tag_text(tag: u64) -> String {
    format!("{tag:016x}")
}

/// `GRAMME.GET key [option...]`.
fn get(args: &[Bytes], service: &Service) -> Result<Command, Answer> {
    let options = Options::read("GRAMME.GET", &args[2..], &GET_OPTIONS, service)?;
    let key = options.key(&args[1])?;
    let get = Get {
        r: options.r,
        pr: options.homes,
        min: options.context(&key, service)?,
        ..plain_get(key.clone())
    };
    Ok(Command { key, timeout_ms: options.timeout_ms, what: What::Get(get) })
}

/// `GRAMME.RESOLVE key CONTEXT context value [option...]`: a put that says what it reconciles.
fn resolve(args: &[Bytes], service: &Service) -> Result<Command, Answer> {
    if word(&args[2]) != "context" {
        return Err(Answer::err(
            "GRAMME.RESOLVE wants the context of the read that showed the siblings: GRAMME.RESOLVE key CONTEXT context value",
        ));
    }
    let options = [&args[2..4], &args[5..]].concat();
    put("GRAMME.RESOLVE", &args[1], &args[4], &options, service)
}

fn put(
    command: &'static str,
    key: &Bytes,
    value: &Bytes,
    options: &[Bytes],
    service: &Service,
) -> Result<Command, Answer> {
    let options = Options::read(command, options, &PUT_OPTIONS, service)?;
    let key = options.key(key)?;
    let put = options.put(&key, Content::Value(value.clone()), service)?;
    Ok(Command { key, timeout_ms: options.timeout_ms, what: What::Put(put) })
}

/// `GRAMME.DEL key [option...]`.
fn delete(args: &[Bytes], service: &Service) -> Result<Command, Answer> {
    let options = Options::read("GRAMME.DEL", &args[2..], &DEL_OPTIONS, service)?;
    let key = options.key(&args[1])?;
    let put = options.put(&key, Content::Tombstone, service)?;
    Ok(Command { key, timeout_ms: options.timeout_ms, what: What::Delete(put) })
}

/// What follows the arguments that have their places.
struct Options {
    bucket: String,
    r: Option<gramme_core::bucket::Level>,
    w: Option<gramme_core::bucket::Level>,
    homes: u8,
    context: Option<String>,
    ttl_ms: Option<u64>,
    expect: Option<Expect>,
    request: RequestId,
    retry: bool,
    buffered: Option<bool>,
    content_type: Bytes,
    meta: Vec<(Bytes, Bytes)>,
    timeout_ms: u64,
}

impl Options {
    /// Each option at most once, META excepted, and each among `known`.
    fn read(
        command: &'static str,
        args: &[Bytes],
        known: &[&str],
        service: &Service,
    ) -> Result<Options, Answer> {
        let mut options = Options {
            bucket: BUCKET.to_owned(),
            r: None,
            w: None,
            homes: 0,
            context: None,
            ttl_ms: None,
            expect: None,
            request: RequestId::default(),
            retry: false,
            buffered: None,
            content_type: Bytes::new(),
            meta: Vec::new(),
            timeout_ms: REQUEST_MS,
        };
        let mut given = Vec::new();
        let mut rest = args.iter();
        while let Some(name) = rest.next() {
            let name = String::from_utf8_lossy(name).to_ascii_uppercase();
            if !known.contains(&&*name) {
                return Err(Answer::err(words::unknown(&format!("option of {command}"), &name, known)));
            }
            let slot =
                SAME.iter().find(|same| same.contains(&&*name)).map_or(&*name, |same| same[0]).to_owned();
            if name != "META" && given.contains(&slot) {
                let others = SAME.iter().find(|same| same.contains(&&*name));
                return Err(Answer::err(match others {
                    Some(same) => format!("{command} takes one of {}", same.join(", ")),
                    None => format!("the option {name} of {command} is given twice"),
                }));
            }
            given.push(slot);
            options.set(command, &name, &mut rest, service)?;
        }
        let bytes = options.meta.iter().map(|(name, value)| name.len() + value.len()).sum();
        words::check_meta(options.meta.len(), bytes).map_err(Answer::err)?;
        Ok(options)
    }

    fn set<'a>(
        &mut self,
        command: &str,
        name: &str,
        rest: &mut impl Iterator<Item = &'a Bytes>,
        service: &Service,
    ) -> Result<(), Answer> {
        match name {
            "NX" => self.expect = Some(Expect::Absent),
            "XX" => self.expect = Some(Expect::Present),
            "RETRY" => self.retry = true,
            _ => {
                let lacks = || Answer::err(format_args!("the option {name} of {command} lacks its value"));
                let value = rest.next().ok_or_else(lacks)?;
                if name == "META" {
                    let text = rest.next().ok_or_else(lacks)?;
                    self.meta.push((meta_name(value)?, printable(name, text)?));
                    return Ok(());
                }
                self.set_to(command, name, value, service)?;
            }
        }
        Ok(())
    }

    fn set_to(&mut self, command: &str, name: &str, value: &Bytes, service: &Service) -> Result<(), Answer> {
        let text = || {
            let bad = || Answer::err(format_args!("the option {name} of {command} is not UTF-8"));
            std::str::from_utf8(value).map_err(|_| bad())
        };
        match name {
            "BUCKET" => self.bucket = text()?.to_owned(),
            "R" => self.r = Some(words::level(name, &word(value), &service.layout()).map_err(Answer::err)?),
            "W" => self.w = Some(words::level(name, &word(value), &service.layout()).map_err(Answer::err)?),
            "PR" | "PW" => {
                self.homes = words::homes(name, &word(value), &service.layout()).map_err(Answer::err)?
            }
            "CONTEXT" | "MIN" => self.context = Some(text()?.to_owned()),
            "EX" => self.ttl_ms = Some(time_ms(command, value, 1000)?),
            "PX" => self.ttl_ms = Some(time_ms(command, value, 1)?),
            "IFMATCH" => {
                self.expect = Some(Expect::Tag(words::tag(name, text()?).map_err(Answer::err)?));
            }
            "IFNONEMATCH" => {
                self.expect = Some(Expect::NotTag(words::tag(name, text()?).map_err(Answer::err)?));
            }
            "ID" => self.request = words::request(name, text()?).map_err(Answer::err)?,
            "BUFFERED" => {
                self.buffered = Some(match &*word(value) {
                    "true" | "1" => true,
                    "false" | "0" => false,
                    other => {
                        return Err(Answer::err(format_args!("BUFFERED is {other:?}: use true or false")));
                    }
                });
            }
            "TYPE" => {
                words::check_content_type(name, value).map_err(Answer::err)?;
                self.content_type = printable(name, value)?;
            }
            _ => {
                let ms = text()?.parse::<u64>().ok().filter(|ms| (1..=REQUEST_MS_MAX).contains(ms));
                self.timeout_ms = ms.ok_or_else(|| {
                    Answer::err(format_args!(
                        "TIMEOUT is {:?}: use 1 to {REQUEST_MS_MAX} milliseconds",
                        String::from_utf8_lossy(value)
                    ))
                })?;
            }
        }
        Ok(())
    }

    fn key(&self, key: &[u8]) -> Result<Key, Answer> {
        Key::new(&self.bucket, key).map_err(Answer::err)
    }

    fn context(&self, key: &Key, service: &Service) -> Result<Option<Context>, Answer> {
        let read = |token| Context::from_token(token, key, &service.company.secret).map_err(Answer::err);
        self.context.as_deref().map(read).transpose()
    }

    fn put(&self, key: &Key, content: Content, service: &Service) -> Result<Put, Answer> {
        Ok(Put {
            content_type: self.content_type.clone(),
            meta: self.meta.clone(),
            ttl_ms: self.ttl_ms,
            context: self.context(key, service)?,
            w: self.w,
            pw: self.homes,
            retry: self.retry,
            buffered: self.buffered,
            expect: self.expect,
            ..plain_put(key.clone(), content, self.request)
        })
    }
}

/// As HTTP has them: in lower case, fit to be the end of a header's name.
fn meta_name(name: &Bytes) -> Result<Bytes, Answer> {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if name.is_empty() || !name.iter().all(fits) {
        return Err(Answer::err(format_args!(
            "the META name {:?} is refused: use letters, digits, - and _",
            String::from_utf8_lossy(name)
        )));
    }
    Ok(Bytes::from(name.to_ascii_lowercase()))
}

/// What HTTP can show in a header.
fn printable(option: &str, text: &Bytes) -> Result<Bytes, Answer> {
    if text.iter().any(|byte| byte.is_ascii_control()) {
        return Err(Answer::err(format_args!(
            "{option} has a control character: readers over HTTP could not be shown it"
        )));
    }
    Ok(text.clone())
}

const GET_OPTIONS: [&str; 5] = ["BUCKET", "R", "PR", "MIN", "TIMEOUT"];
const PUT_OPTIONS: [&str; 16] = [
    "BUCKET",
    "CONTEXT",
    "W",
    "PW",
    "EX",
    "PX",
    "NX",
    "XX",
    "IFMATCH",
    "IFNONEMATCH",
    "ID",
    "RETRY",
    "BUFFERED",
    "TYPE",
    "META",
    "TIMEOUT",
];
const DEL_OPTIONS: [&str; 12] = [
    "BUCKET",
    "CONTEXT",
    "W",
    "PW",
    "NX",
    "XX",
    "IFMATCH",
    "IFNONEMATCH",
    "ID",
    "RETRY",
    "BUFFERED",
    "TIMEOUT",
];
/// Options of which a command takes one.
const SAME: [&[&str]; 2] = [&["EX", "PX"], &["NX", "XX", "IFMATCH", "IFNONEMATCH"]];
