//! What an operator decides: one TOML file, over which the environment (`GRAMME_SECTION__KEY`) wins, over
//! which flags win. Read once at start and passed on explicitly; there are no globals.
//!
//! Nothing is guessed: an unknown key is an error that names it, its place and the nearest known one. A door
//! that strangers could reach is refused unless it has a token (HTTP, RESP) or TLS (peers), or the operator
//! wrote `insecure = true`. `docs/settings.md` has every key; a test holds it to that.

mod birth;
mod keys;
mod read;

pub use keys::{KEYS, Key, Kind};

use gramme_core::NodeId;
use std::fmt;
use std::path::{Path, PathBuf};

/// The settings of one node; see `docs/settings.md` for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which member of the cluster this is.
    pub node_id: NodeId,
    /// What logs call it; empty leaves it to the cluster file.
    pub node_name: String,
    /// What fails together with it; `None` leaves it to the cluster file.
    pub node_zone: Option<String>,
    /// Where the cluster file lies.
    pub cluster_file: PathBuf,
    /// Peer doors that are called while no peer is within reach: `host:port`.
    pub seeds: Vec<String>,
    /// Where everything that this node stores lies.
    pub data_dir: PathBuf,
    /// What stores it.
    pub engine: EngineKind,
    /// Memory for caches, in MiB: one half for decoded records, one half for table blocks.
    pub cache_mb: u32,
    /// Free space that the disk must keep, in MiB: below it writes are refused and reads go on.
    pub reserve_mb: u32,
    /// What may be kept in hints for other nodes, in MiB.
    pub hints_mb: u32,
    /// Whether tombstones that every home has seen are let go of.
    pub reclaim: bool,
    /// Between two audits of a partition with another home of it, in seconds.
    pub audit_seconds: u32,
    /// In which everything stored is reread once, in hours.
    pub scrub_hours: u32,
    /// Where the HTTP door listens: `host:port`.
    pub http: String,
    /// Where the Redis door listens: `host:port`.
    pub resp: String,
    /// Where peers are listened to: `host:port`.
    pub peer: String,
    /// Where peers reach this node, if that is not what the cluster file says, or where it listens: `host:port`.
    pub advertise: Option<String>,
    /// Threads that own partitions; never 0 (the setting 0 has been replaced by the number of cores).
    pub shards: usize,
    /// What clients must present; `None` lets everyone in.
    pub token: Option<Token>,
    /// Certificates for talking to peers; `None` is plain TCP.
    pub tls: Option<TlsFiles>,
    /// Whether open doors on addresses that others can reach are allowed.
    pub insecure: bool,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or a filter such as `info,gramme_node=debug`.
    pub log_level: String,
    /// How it is written.
    pub log_format: LogFormat,
}

/// What stores rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineKind {
    /// On disk.
    Fjall,
    /// In memory: everything is gone when the process ends.
    Memory,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A shared secret; its `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Whether a client presented this token; takes the same time whatever was presented.
    pub fn admits(&self, presented: &[u8]) -> bool {
        use subtle::ConstantTimeEq;
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl Token {
    /// The secret itself, to be presented to other nodes of the cluster.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Token {
    fn from(text: &str) -> Token {
        Token(text.to_owned())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// PEM files for mutual TLS between peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// This node's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authority that signed every node's certificate.
    pub ca: PathBuf,
}

/// Everything that is wrong with settings, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError(pub Vec<String>);

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for SettingsError {}

impl Settings {
    /// Reads settings: `file` if there is one, then those of `env` that are named `GRAMME_SECTION__KEY`, then
    /// `flags` as (`section.key`, value); the last word wins. Relative paths in the file are relative to the
    /// file's directory, others to the working directory. The error holds everything that is wrong, not only the first.
    pub fn load(
        file: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<Settings, SettingsError> {
        let mut problems = Vec::new();
        let draft = draft(file, env, flags, &mut problems)?;
        finish(draft, problems)
    }

    /// The same for a node that asks to join and may not have been named yet: a file without `node.id` is given a
    /// random one, durably, once everything else was found to be in order; also given back, if it was.
    pub fn load_to_join(
        file: &Path,
        env: impl IntoIterator<Item = (String, String)>,
        flags: &[(&str, String)],
    ) -> Result<(Settings, Option<NodeId>), SettingsError> {
        let mut problems = Vec::new();
        let mut draft = draft(Some(file), env, flags, &mut problems)?;
        if !problems.is_empty() || !draft.lacks_id() {
            return finish(draft, problems).map(|settings| (settings, None));
        }
        let id = NodeId(crate::random::word());
        draft.name(id);
        let settings = finish(draft, problems)?;
        birth::write_id(file, id).map_err(|wrong| SettingsError(vec![wrong]))?;
        Ok((settings, Some(id)))
    }

    /// Looks for what makes no sense together or cannot work on this machine: open doors, missing files. Gives
    /// warnings; needs no running cluster and changes nothing.
    pub fn check(&self) -> Result<Vec<String>, SettingsError> {
        let mut problems = Vec::new();
        let mut warnings = Vec::new();
        let mut door = |key: &str, address: &str, guarded: bool, guard: &str| {
            if guarded || is_loopback(address) {
                return;
            }
            let open = format!("{key} = {address:?} can be reached from other machines without {guard}");
            if self.insecure {
                warnings.push(format!("{open}, which security.insecure allows"));
            } else {
                problems.push(format!(
                    "{open}: set {guard}, listen on 127.0.0.1, or allow it with security.insecure = true"
                ));
            }
        };
        door("listen.http", &self.http, self.token.is_some(), "security.token");
        door("listen.resp", &self.resp, self.token.is_some(), "security.token");
        door("listen.peer", &self.peer, self.tls.is_some(), "[tls]");
        if let Some(tls) = &self.tls {
            for (key, path) in [("tls.cert", &tls.cert), ("tls.key", &tls.key), ("tls.ca", &tls.ca)] {
                if let Err(e) = std::fs::File::open(path) {
                    problems.push(format!("{key} names {}, which cannot be read: {e}", path.display()));
                }
            }
        }
        if problems.is_empty() { Ok(warnings) } else { Err(SettingsError(problems)) }
    }
}

/// What was said, as far as it makes sense; the rest is told in `problems`.
fn draft(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    flags: &[(&str, String)],
    problems: &mut Vec<String>,
) -> Result<keys::Draft, SettingsError> {
    let mut entries = Vec::new();
    if let Some(path) = file {
        match std::fs::read_to_string(path) {
            Ok(text) => entries.extend(read::file(&text, path, problems)),
            Err(e) => {
                return Err(SettingsError(vec![format!(
                    "the settings file {} cannot be read: {e}",
                    path.display()
                )]));
            }
        }
    }
    entries.extend(read::env(env, problems));
    entries.extend(read::flags(flags, problems));
    let home = file.and_then(Path::parent).unwrap_or(Path::new("")).to_owned();
    let mut draft = keys::Draft::new(home.clone());
    for entry in entries {
        draft.base = if entry.in_file { home.clone() } else { PathBuf::new() };
        if let Err(what) = (entry.key.take)(&mut draft, &entry.text) {
            problems.push(format!("{}: {} {what}", entry.place, entry.key.name));
        }
    }
    Ok(draft)
}

fn finish(draft: keys::Draft, mut problems: Vec<String>) -> Result<Settings, SettingsError> {
    match draft.finish(&mut problems) {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(SettingsError(problems)),
    }
}

/// Whether only this machine can reach `host:port`.
fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests;
