//! Every key there is, in one table: its name, the type it has in a file, and how its text is taken.

use super::{EngineKind, LogFormat, Settings, TlsFiles, Token};
use gramme_core::NodeId;
use gramme_core::limits::{AUDIT_MS, HINTS_MB, HINTS_MB_MAX, MEMBER_TEXT_BYTES_MAX, SCRUB_MS};
use std::path::{Path, PathBuf};

/// One key of the settings.
pub struct Key {
    /// `section.key`, as in the file.
    pub name: &'static str,
    /// Its type in the file.
    pub kind: Kind,
    /// Takes the text of a value, or says what is wrong with it, as the end of a sentence that begins with
    /// the key's name.
    pub(super) take: fn(&mut Draft, &str) -> Result<(), String>,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// What a value is in a file; in the environment and in flags everything is text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A list of strings, or one string with commas between them, which is its text.
    List,
    /// A whole number.
    Number,
    /// `true` or `false`.
    Flag,
}

impl Kind {
    /// With its article, for sentences.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Text => "a string",
            Kind::List => "a list of strings",
            Kind::Number => "a whole number",
            Kind::Flag => "true or false",
        }
    }
}

/// Every key.
pub const KEYS: &[Key] = &[
    key("node.id", Kind::Text, |d, v| put(&mut d.node_id, v.parse::<NodeId>())),
    key("node.name", Kind::Text, |d, v| keep(&mut d.node_name, v)),
    key("node.zone", Kind::Text, |d, v| put_zone(&mut d.node_zone, v)),
    key("cluster.file", Kind::Text, |d, v| put_path(d, v, |d| &mut d.cluster_file)),
    key("cluster.seeds", Kind::List, |d, v| put_addresses(&mut d.seeds, v)),
    key("storage.data_dir", Kind::Text, |d, v| put_path(d, v, |d| &mut d.data_dir)),
    key("storage.engine", Kind::Text, |d, v| {
        one_of(&mut d.engine, v, &[("fjall", EngineKind::Fjall), ("memory", EngineKind::Memory)])
    }),
    key("storage.cache_mb", Kind::Number, |d, v| number(&mut d.cache_mb, v, 1, CACHE_MB_MAX)),
    key("storage.reserve_mb", Kind::Number, |d, v| number(&mut d.reserve_mb, v, 1, RESERVE_MB_MAX)),
    key("storage.hints_mb", Kind::Number, |d, v| number(&mut d.hints_mb, v, 1, HINTS_MB_MAX)),
    key("storage.reclaim", Kind::Flag, |d, v| one_of(&mut d.reclaim, v, &[("true", true), ("false", false)])),
    key("repair.audit_seconds", Kind::Number, |d, v| number(&mut d.audit_seconds, v, 10, AUDIT_SECONDS_MAX)),
    key("repair.scrub_hours", Kind::Number, |d, v| number(&mut d.scrub_hours, v, 1, SCRUB_HOURS_MAX)),
    key("listen.http", Kind::Text, |d, v| put_address(&mut d.http, v)),
    key("listen.resp", Kind::Text, |d, v| put_address(&mut d.resp, v)),
    key("listen.peer", Kind::Text, |d, v| put_address(&mut d.peer, v)),
    key("listen.advertise", Kind::Text, |d, v| put_reachable(&mut d.advertise, v)),
    key("server.shards", Kind::Number, |d, v| number(&mut d.shards, v, 0, SHARDS_MAX)),
    key("security.token", Kind::Text, |d, v| {
        let token = check_token(v)?;
        put(&mut d.token, Ok::<_, String>(token))
    }),
    key("security.token_file", Kind::Text, |d, v| {
        let path = d.base.join(v);
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("names {}, which cannot be read: {e}", path.display()))?;
        d.token_from_file = Some(check_token(text.trim())?);
        Ok(())
    }),
    key("security.insecure", Kind::Flag, |d, v| {
        one_of(&mut d.insecure, v, &[("true", true), ("false", false)])
    }),
    key("tls.cert", Kind::Text, |d, v| put_path(d, v, |d| &mut d.tls_cert)),
    key("tls.key", Kind::Text, |d, v| put_path(d, v, |d| &mut d.tls_key)),
    key("tls.ca", Kind::Text, |d, v| put_path(d, v, |d| &mut d.tls_ca)),
    key("log.level", Kind::Text, |d, v| {
        tracing_subscriber::EnvFilter::try_new(v).map_err(|_| {
            format!("is {v:?}: use error, warn, info, debug, trace, or a filter such as \"info,gramme_node=debug\"")
        })?;
        keep(&mut d.log_level, v)
    }),
    key("log.format", Kind::Text, |d, v| {
        one_of(&mut d.log_format, v, &[("text", LogFormat::Text), ("json", LogFormat::Json)])
    }),
];

/// Settings as far as they have been said.
pub(super) struct Draft {
    /// Where defaults lie: beside the settings file.
    home: PathBuf,
    /// Where relative paths start: at the file that says them, or at the working directory.
    pub(super) base: PathBuf,
    node_id: Option<NodeId>,
    node_name: Option<String>,
    node_zone: Option<String>,
    cluster_file: Option<PathBuf>,
    seeds: Option<Vec<String>>,
    data_dir: Option<PathBuf>,
    engine: Option<EngineKind>,
    cache_mb: Option<u32>,
    reserve_mb: Option<u32>,
    hints_mb: Option<u32>,
    reclaim: Option<bool>,
    audit_seconds: Option<u32>,
    scrub_hours: Option<u32>,
    http: Option<String>,
    resp: Option<String>,
    peer: Option<String>,
    advertise: Option<String>,
    shards: Option<u32>,
    token: Option<Token>,
    token_from_file: Option<Token>,
    insecure: Option<bool>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_ca: Option<PathBuf>,
    log_level: Option<String>,
    log_format: Option<LogFormat>,
}

impl Draft {
    /// Nothing said, by a file in `home` or otherwise.
    pub(super) fn new(home: PathBuf) -> Draft {
        Draft {
            base: home.clone(),
            home,
            node_id: None,
            node_name: None,
            node_zone: None,
            cluster_file: None,
            seeds: None,
            data_dir: None,
            engine: None,
            cache_mb: None,
            reserve_mb: None,
            hints_mb: None,
            reclaim: None,
            audit_seconds: None,
            scrub_hours: None,
            http: None,
            resp: None,
            peer: None,
            advertise: None,
            shards: None,
            token: None,
            token_from_file: None,
            insecure: None,
            tls_cert: None,
            tls_key: None,
            tls_ca: None,
            log_level: None,
            log_format: None,
        }
    }

    /// Whether nobody has said who this node is.
    pub(super) fn lacks_id(&self) -> bool {
        self.node_id.is_none()
    }

    /// This is who it is.
    pub(super) fn name(&mut self, id: NodeId) {
        self.node_id = Some(id);
    }

    /// Fills in the defaults; `None` if something without one was not said.
    pub(super) fn finish(self, problems: &mut Vec<String>) -> Option<Settings> {
        let tls = match (self.tls_cert, self.tls_key, self.tls_ca) {
            (None, None, None) => None,
            (Some(cert), Some(key), Some(ca)) => Some(TlsFiles { cert, key, ca }),
            _ => {
                problems.push(
                    "[tls] is incomplete: TLS between peers needs all of tls.cert, tls.key and tls.ca".into(),
                );
                None
            }
        };
        if self.token.is_some() && self.token_from_file.is_some() {
            problems.push("both security.token and security.token_file are set: keep one of them".into());
        }
        let Some(node_id) = self.node_id else {
            if !problems.iter().any(|problem| problem.contains("node.id")) {
                problems.push(
                    "node.id is missing: it says which member of the cluster this node is, as in the settings file that `gramme cluster init` wrote for it"
                        .into(),
                );
            }
            return None;
        };
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let shards = match self.shards.unwrap_or(0) {
            0 => cores().min(SHARDS_MAX as usize),
            shards => shards as usize,
        };
        Some(Settings {
            node_id,
            node_name: self.node_name.unwrap_or_default(),
            node_zone: self.node_zone,
            cluster_file: self.cluster_file.unwrap_or_else(|| self.home.join("cluster.gramme")),
            seeds: self.seeds.unwrap_or_default(),
            data_dir: self.data_dir.unwrap_or_else(|| self.home.join("data")),
            engine: self.engine.unwrap_or(EngineKind::Fjall),
            cache_mb: self.cache_mb.unwrap_or(CACHE_MB),
            reserve_mb: self.reserve_mb.unwrap_or(RESERVE_MB),
            hints_mb: self.hints_mb.unwrap_or(HINTS_MB),
            // Until docs/ledger.md says that what it must pass has passed again.
            reclaim: self.reclaim.unwrap_or(false),
            audit_seconds: self.audit_seconds.unwrap_or((AUDIT_MS / 1000) as u32),
            scrub_hours: self.scrub_hours.unwrap_or((SCRUB_MS / MS_PER_HOUR) as u32),
            http: self.http.unwrap_or_else(|| "127.0.0.1:7400".into()),
            resp: self.resp.unwrap_or_else(|| "127.0.0.1:7401".into()),
            peer: self.peer.unwrap_or_else(|| "127.0.0.1:7402".into()),
            advertise: self.advertise,
            shards,
            token: self.token.or(self.token_from_file),
            tls,
            insecure: self.insecure.unwrap_or(false),
            log_level: self.log_level.unwrap_or_else(|| "info".into()),
            log_format: self.log_format.unwrap_or(LogFormat::Text),
        })
    }
}

const fn key(name: &'static str, kind: Kind, take: fn(&mut Draft, &str) -> Result<(), String>) -> Key {
    Key { name, kind, take }
}

fn put<T, E: std::fmt::Display>(slot: &mut Option<T>, value: Result<T, E>) -> Result<(), String> {
    *slot = Some(value.map_err(|e| format!("is not valid: {e}"))?);
    Ok(())
}

fn keep(slot: &mut Option<String>, text: &str) -> Result<(), String> {
    *slot = Some(text.to_owned());
    Ok(())
}

fn put_path(
    draft: &mut Draft,
    text: &str,
    slot: fn(&mut Draft) -> &mut Option<PathBuf>,
) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty: write a path".into());
    }
    let path = draft.base.join(Path::new(text));
    *slot(draft) = Some(path);
    Ok(())
}

fn put_address(slot: &mut Option<String>, text: &str) -> Result<(), String> {
    port_of(text).ok_or_else(|| format!("is {text:?}: write host:port, such as \"127.0.0.1:7400\""))?;
    keep(slot, text)
}

fn put_reachable(slot: &mut Option<String>, text: &str) -> Result<(), String> {
    check_reachable(text)?;
    keep(slot, text)
}

fn put_addresses(slot: &mut Option<Vec<String>>, text: &str) -> Result<(), String> {
    let addresses = text.split(',').map(str::trim).filter(|address| !address.is_empty());
    let addresses: Vec<String> = addresses.map(str::to_owned).collect();
    addresses.iter().try_for_each(|address| check_reachable(address))?;
    *slot = Some(addresses);
    Ok(())
}

/// What other machines are told to connect to, or what is connected to.
fn check_reachable(address: &str) -> Result<(), String> {
    let somewhere = !address.starts_with("0.0.0.0:") && !address.starts_with("[::]:");
    match port_of(address) {
        Some(1..) if somewhere && address.len() <= MEMBER_TEXT_BYTES_MAX => Ok(()),
        _ => Err(format!(
            "is {address:?}: write host:port as other machines reach it, such as \"10.0.0.4:7402\""
        )),
    }
}

/// The port of `host:port`.
fn port_of(address: &str) -> Option<u16> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse().ok().filter(|_| !host.is_empty())
}

fn put_zone(slot: &mut Option<String>, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > MEMBER_TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(format!(
            "is {text:?}: write 1 to {MEMBER_TEXT_BYTES_MAX} bytes of text, such as \"rack-a\""
        ));
    }
    keep(slot, text)
}

fn number(slot: &mut Option<u32>, text: &str, min: u32, max: u32) -> Result<(), String> {
    match text.parse::<u32>() {
        Ok(value) if (min..=max).contains(&value) => {
            *slot = Some(value);
            Ok(())
        }
        _ => Err(format!("is {text}: use a whole number from {min} to {max}")),
    }
}

fn one_of<T: Copy>(slot: &mut Option<T>, text: &str, words: &[(&str, T)]) -> Result<(), String> {
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => {
            *slot = Some(*value);
            Ok(())
        }
        None => {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Err(format!("is {text:?}: use {}", words.join(" or ")))
        }
    }
}

/// A token travels in HTTP headers and Redis commands, so it is printable and has no spaces.
fn check_token(text: &str) -> Result<Token, String> {
    if text.len() < TOKEN_BYTES_MIN {
        return Err(format!("is too short to be a secret: use at least {TOKEN_BYTES_MIN} characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(
            "has spaces or characters that are not printable ASCII, which HTTP headers cannot carry".into()
        );
    }
    Ok(Token::from(text))
}

/// Enough for the hot keys of a laptop; a node that idles stays well under 60 MiB.
const CACHE_MB: u32 = 32;
/// What the engine needs to merge its tables, with room to spare.
const RESERVE_MB: u32 = 256;
const RESERVE_MB_MAX: u32 = 1 << 20;
const CACHE_MB_MAX: u32 = 1 << 20;
/// A day, and a year: what is looked at less often is not looked at.
const AUDIT_SECONDS_MAX: u32 = 24 * 60 * 60;
const SCRUB_HOURS_MAX: u32 = 366 * 24;
const MS_PER_HOUR: u64 = 60 * 60 * 1000;
/// A message names its requester's shard in one byte.
const SHARDS_MAX: u32 = 128;
const TOKEN_BYTES_MIN: usize = 8;
