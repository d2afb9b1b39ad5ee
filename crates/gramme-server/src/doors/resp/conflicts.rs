//! GRAMME.CONFLICTS: the keys of a bucket that have several values, found by going through it as SCAN does.

use super::answer::Answer;
use super::errand::Levels;
use super::strings::BUCKET;
use super::{glob, word};
use crate::doors::{Service, failure_of, words};
use bytes::Bytes;
use gramme_core::limits::{LIST_PAGE_KEYS_MAX, REQUEST_MS};
use gramme_core::{PartitionId, View};
use gramme_node::request::{Call, ListPage, Listed, Request, Response};
use gramme_wire::Failure;

/// `GRAMME.CONFLICTS cursor [BUCKET b] [MATCH pattern] [COUNT n]`: the next cursor, and keys with how many values
/// each has.
pub(super) async fn run(service: &Service, levels: Levels, args: &[Bytes]) -> Answer {
    let mut search = match Search::read(service, args) {
        Ok(search) => search,
        Err(sentence) => return Answer::err(sentence),
    };
    let mut found = Vec::new();
    let mut looked_at = 0;
    // Most partitions of a small bucket are empty: they are bounded on their own.
    for _ in 0..PAGES_MAX {
        let Some((partition, after)) = search.next.clone() else { break };
        let listed = match search.page(service, levels, partition, after).await {
            Ok(listed) => listed,
            Err(failure) => return Answer::Failed(failure),
        };
        looked_at += listed.entries.len();
        for (key, record) in &listed.entries {
            if let View::Siblings(values) = record.view(listed.mode, listed.now_ms)
                && glob::matches(&search.pattern, key)
            {
                found.push(Answer::Array(vec![
                    Answer::Value(key.clone()),
                    Answer::Integer(values.len() as i64),
                ]));
            }
        }
        search.next = match listed.next_after {
            Some(after) => Some((partition, Some(after))),
            None => Some(PartitionId(partition.0 + 1))
                .filter(|next| usize::from(next.0) < service.partitions())
                .map(|next| (next, None)),
        };
        if looked_at >= search.count {
            break;
        }
    }
    Answer::Array(vec![Answer::Text(search.cursor()), Answer::Array(found)])
}

struct Search {
    bucket: String,
    pattern: Bytes,
    /// Keys to look at in one call.
    count: usize,
    /// Where to go on: in this partition, behind this key of it. `None` at the end.
    next: Option<(PartitionId, Option<Bytes>)>,
}

impl Search {
    fn read(service: &Service, args: &[Bytes]) -> Result<Search, String> {
        let mut search = Search {
            bucket: BUCKET.to_owned(),
            pattern: Bytes::from_static(b"*"),
            count: LIST_PAGE_KEYS_MAX,
            next: Some(place(&args[1], service.partitions()).ok_or(BAD_CURSOR)?),
        };
        for pair in args[2..].chunks(2) {
            let name = String::from_utf8_lossy(&pair[0]).to_ascii_uppercase();
            if !OPTIONS.contains(&&*name) {
                return Err(words::unknown("option of GRAMME.CONFLICTS", &name, &OPTIONS));
            }
            let Some(value) = pair.get(1) else {
                return Err(format!("the option {name} of GRAMME.CONFLICTS lacks its value"));
            };
            match &*name {
                "BUCKET" => search.bucket = String::from_utf8_lossy(value).into_owned(),
                "MATCH" => search.pattern = value.clone(),
                _ => {
                    search.count = word(value).parse().ok().filter(|&count| count > 0).ok_or_else(|| {
                        format!(
                            "COUNT is {:?}: write a number of keys from 1",
                            String::from_utf8_lossy(value)
                        )
                    })?;
                }
            }
        }
        gramme_core::id::check_bucket(&search.bucket).map_err(|bad| bad.to_string())?;
        Ok(search)
    }

    async fn page(
        &self,
        service: &Service,
        levels: Levels,
        partition: PartitionId,
        after: Option<Bytes>,
    ) -> Result<Listed, Box<Failure>> {
        let page = ListPage {
            partition,
            bucket: self.bucket.clone(),
            prefix: Bytes::copy_from_slice(glob::prefix(&self.pattern)),
            after,
            keys_max: self.count.min(LIST_PAGE_KEYS_MAX) as u32,
            values: false,
            r: levels.r,
        };
        match service.shards.call(Call { timeout_ms: REQUEST_MS, request: Request::List(page) }).await {
            Response::Listed(listed) => Ok(listed),
            other => Err(failure_of(other)),
        }
    }

    /// `0` at the end, as SCAN's; else a partition, and the key behind which to go on in hexadecimal digits.
    fn cursor(&self) -> String {
        match &self.next {
            None => "0".to_owned(),
            Some((partition, None)) => partition.0.to_string(),
            Some((partition, Some(after))) => {
                let digits: String = after.iter().map(|byte| format!("{byte:02x}")).collect();
                format!("{}-{digits}", partition.0)
            }
        }
    }
}

/// What a cursor stands for.
fn place(cursor: &[u8], partitions: usize) -> Option<(PartitionId, Option<Bytes>)> {
    let text = std::str::from_utf8(cursor).ok()?;
    let (partition, after) = match text.split_once('-') {
        None => (text, None),
        Some((partition, digits)) => (partition, Some(from_hex(digits)?)),
    };
    let partition = partition.parse::<u16>().ok().filter(|&p| usize::from(p) < partitions)?;
    Some((PartitionId(partition), after))
}

fn from_hex(digits: &str) -> Option<Bytes> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| {
        let digits = std::str::from_utf8(pair).ok().filter(|digits| digits.len() == 2)?;
        u8::from_str_radix(digits, 16).ok()
    });
    pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
}

const OPTIONS: [&str; 3] = ["BUCKET", "MATCH", "COUNT"];
const BAD_CURSOR: &str = "invalid cursor: begin with 0, and go on with the cursor that the last answer gave";
/// Pages that one call reads.
const PAGES_MAX: usize = 64;
