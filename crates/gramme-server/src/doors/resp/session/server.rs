//! INFO, CONFIG GET, DBSIZE: what clients and tools ask a server before they trust it.

use super::{unknown_subcommand, wrong_number};
use crate::doors::resp::answer::Answer;
use crate::doors::resp::strings::BUCKET;
use crate::doors::resp::{glob, word};
use crate::doors::{Service, failure_of};
use crate::mailbox::Door;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use gramme_core::PartitionId;
use gramme_core::limits::{LIST_PAGE_KEYS_MAX, REQUEST_MS, VALUE_BYTES_MAX};
use gramme_node::request::{Call, ListPage, Request, Response};
use gramme_storage::Engine;
use gramme_wire::Failure;
use std::fmt::Write as _;
use std::sync::Arc;

/// `CONFIG GET pattern...`.
pub(super) fn config(args: &[Bytes]) -> Answer {
    match (&*word(&args[1]), &args[2..]) {
        ("get", []) => wrong_number("config|get"),
        ("get", patterns) => {
            let limit = VALUE_BYTES_MAX.to_string();
            let known = PARAMETERS
                .iter()
                .map(|&(name, value)| (name, value))
                .chain([("proto-max-bulk-len", &*limit)]);
            let wanted = known.filter(|(name, _)| {
                patterns.iter().any(|pattern| glob::matches(word(pattern).as_bytes(), name.as_bytes()))
            });
            Answer::Map(
                wanted.map(|(name, value)| (Answer::Text(name.into()), Answer::Text(value.into()))).collect(),
            )
        }
        ("set", [name, ..]) => Answer::err(format_args!(
            "CONFIG SET failed (possibly related to argument '{}') - can't set immutable config",
            String::from_utf8_lossy(name)
        )),
        ("set", _) => wrong_number("config|set"),
        _ => unknown_subcommand("CONFIG", &args[1]),
    }
}

/// `INFO [section...]`.
pub(super) async fn info(service: &Service, args: &[Bytes]) -> Answer {
    let wanted: Vec<String> = args[1..].iter().map(word).collect();
    let all =
        wanted.is_empty() || wanted.iter().any(|name| matches!(&**name, "all" | "everything" | "default"));
    let mut text = String::new();
    for (name, lines) in sections(service).await {
        if all || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name)) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            // A String takes whatever is written to it.
            let _ = write!(text, "# {name}\r\n");
            for (field, value) in lines {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
    }
    Answer::Verbatim(text)
}

async fn sections(service: &Service) -> Vec<(&'static str, Vec<(&'static str, String)>)> {
    let shards = service.statuses().await;
    let stats = service.store.stats();
    let uptime = service.started.elapsed().as_secs();
    let port = service.addresses.resp.port();
    let connected =
        shards.first().map_or(0, |shard| shard.peers.iter().filter(|peer| peer.connected).count());
    vec![
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.into()),
                ("server_name", "gramme".into()),
                ("gramme_version", env!("CARGO_PKG_VERSION").into()),
                ("redis_mode", "standalone".into()),
                ("os", std::env::consts::OS.into()),
                ("arch_bits", usize::BITS.to_string()),
                ("process_id", std::process::id().to_string()),
                ("tcp_port", port.to_string()),
                ("uptime_in_seconds", uptime.to_string()),
                ("uptime_in_days", (uptime / 86_400).to_string()),
            ],
        ),
        (
            "Clients",
            vec![
                ("connected_clients", service.clients(Door::Resp).to_string()),
                ("blocked_clients", "0".into()),
            ],
        ),
        ("Memory", vec![("maxmemory", "0".into()), ("maxmemory_policy", "noeviction".into())]),
        (
            "Persistence",
            vec![
                ("loading", "0".into()),
                ("aof_enabled", i32::from(service.store.name() == "fjall").to_string()),
                ("rdb_last_bgsave_status", "ok".into()),
            ],
        ),
        (
            "Stats",
            vec![
                ("store_batches", stats.batches.to_string()),
                ("store_syncs", stats.syncs.to_string()),
                ("store_bytes", stats.stored_bytes.to_string()),
            ],
        ),
        ("Replication", vec![("role", "master".into()), ("connected_slaves", "0".into())]),
        ("Cluster", vec![("cluster_enabled", "0".into())]),
        (
            "Gramme",
            vec![
                ("gramme_cluster", service.company.hello.cluster.to_string()),
                ("gramme_node", service.node().to_string()),
                ("gramme_members", service.layout().members().len().to_string()),
                ("gramme_peers_connected", connected.to_string()),
                ("gramme_copies", service.layout().n().to_string()),
                ("gramme_hints", shards.iter().map(|shard| shard.hints.hints).sum::<u64>().to_string()),
            ],
        ),
    ]
}

/// Counts partitions until enough keys were seen to tell the rest from them: exact (but for what changes
/// meanwhile) up to [`COUNTED_MAX`] keys, an estimate within a few percent beyond.
pub(super) async fn dbsize(service: &Arc<Service>) -> Answer {
    let partitions = service.partitions();
    let counts = stream::iter(0..partitions).map(|p| count(service, PartitionId(p as u16))).buffered(AHEAD);
    let mut counts = std::pin::pin!(counts);
    let (mut seen, mut visited) = (0u64, 0u64);
    while let Some(counted) = counts.next().await {
        match counted {
            Ok(keys) => seen += keys,
            Err(failure) => return Answer::Failed(failure),
        }
        visited += 1;
        if seen >= COUNTED_MAX {
            break;
        }
    }
    Answer::Integer((seen * partitions as u64 / visited.max(1)) as i64)
}

async fn count(service: &Service, partition: PartitionId) -> Result<u64, Box<Failure>> {
    let (mut keys, mut after) = (0, None);
    loop {
        let page = ListPage {
            partition,
            bucket: BUCKET.to_owned(),
            prefix: Bytes::new(),
            after,
            keys_max: LIST_PAGE_KEYS_MAX as u32,
            values: false,
            r: None,
        };
        match service.shards.call(Call { timeout_ms: REQUEST_MS, request: Request::List(page) }).await {
            Response::Listed(listed) => {
                keys += listed.entries.len() as u64;
                match listed.next_after {
                    Some(next) => after = Some(next),
                    None => return Ok(keys),
                }
            }
            other => return Err(failure_of(other)),
        }
    }
}

/// The release of Redis whose behaviour clients may expect, for those that look.
pub(super) const REDIS_VERSION: &str = "7.2.5";
/// What tools ask for, answered as it is here.
const PARAMETERS: [(&str, &str); 7] = [
    ("save", ""),
    ("appendonly", "yes"),
    ("databases", "1"),
    ("maxmemory", "0"),
    ("maxmemory-policy", "noeviction"),
    ("timeout", "0"),
    ("replica-read-only", "no"),
];
const COUNTED_MAX: u64 = 10_000;
const AHEAD: usize = 8;
