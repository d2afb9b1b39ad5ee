//! What a bucket wants: how many answers, how siblings are shown, how long values live. Settings are a
//! map from name to (settings, stamp, author); of two the larger (stamp, author) wins, so that the map is
//! a state that merges, and gossip carries it (design section 3). Should an author repeat a stamp, as one
//! that lost its disk may, the larger bytes win, since nodes must agree even then. Byte table:
//! `docs/format/bucket.md`.

use crate::codec::{BadBytes, Reader, Writer};
use crate::hlc::Stamp;
use crate::id::NodeId;
use crate::limits::{SIBLINGS_MAX, VALUE_BYTES_DEFAULT_MAX, VALUE_BYTES_MAX};
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// How many nodes must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One.
    One,
    /// More than half of N.
    Quorum,
    /// N.
    All,
    /// So many; at least 1.
    Count(u8),
}

impl Level {
    /// The number it stands for in a cluster of `n` copies; more than `n` is an error that says so.
    pub fn resolve(self, n: usize) -> Result<usize, LevelTooHigh> {
        match self {
            Level::One => Ok(1),
            Level::Quorum => Ok(n / 2 + 1),
            Level::All => Ok(n),
            Level::Count(count) if count as usize <= n && count > 0 => Ok(count as usize),
            Level::Count(count) => Err(LevelTooHigh { asked: count as usize, n }),
        }
    }

    /// Reads `one`, `quorum`, `all` or a number from 1.
    pub fn parse(text: &str) -> Option<Level> {
        match text {
            "one" => Some(Level::One),
            "quorum" => Some(Level::Quorum),
            "all" => Some(Level::All),
            number => number.parse().ok().filter(|&count| count > 0).map(Level::Count),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Level::One => f.write_str("one"),
            Level::Quorum => f.write_str("quorum"),
            Level::All => f.write_str("all"),
            Level::Count(count) => write!(f, "{count}"),
        }
    }
}

/// More answers were asked for than there are copies, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelTooHigh {
    /// What was asked for.
    pub asked: usize,
    /// Copies of each key.
    pub n: usize,
}

impl fmt::Display for LevelTooHigh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answers were asked for, but this cluster keeps N={} copies: use 1 to {}",
            self.asked, self.n, self.n
        )
    }
}

impl core::error::Error for LevelTooHigh {}

/// How true siblings are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// All of them; the application reconciles.
    Siblings,
    /// The one with the largest (stamp, dot).
    Lww,
}

impl Mode {
    /// `siblings` or `lww`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Siblings => "siblings",
            Mode::Lww => "lww",
        }
    }

    /// Reads what [`Mode::as_str`] gives.
    pub fn parse(text: &str) -> Option<Mode> {
        [Mode::Siblings, Mode::Lww].into_iter().find(|mode| mode.as_str() == text)
    }
}

/// One bucket's settings. N is not among them: it is one number per cluster, part of the layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketSettings {
    /// Answers that a read waits for.
    pub r: Level,
    /// Durable copies that a write waits for.
    pub w: Level,
    /// How siblings are shown.
    pub mode: Mode,
    /// How long a value lives if its put says nothing, in milliseconds; 0 is for ever.
    pub ttl_ms: u64,
    /// Whether a put or delete without a context is refused.
    pub require_context: bool,
    /// Whether a write counts a copy as soon as it is in that node's memory (the paper, 6.1).
    pub buffered: bool,
    /// The largest value, in bytes; at most [`VALUE_BYTES_MAX`].
    pub value_bytes_max: u64,
    /// Siblings at which puts that do not shrink the set are refused; at most [`SIBLINGS_MAX`].
    pub siblings_max: u64,
}

impl BucketSettings {
    /// What a bucket has that nobody has set: `siblings`, except that `default` is `lww`.
    pub fn default_of(bucket: &str) -> BucketSettings {
        BucketSettings {
            r: Level::Quorum,
            w: Level::Quorum,
            mode: if bucket == "default" { Mode::Lww } else { Mode::Siblings },
            ttl_ms: 0,
            require_context: false,
            buffered: false,
            value_bytes_max: VALUE_BYTES_DEFAULT_MAX as u64,
            siblings_max: SIBLINGS_MAX as u64,
        }
    }

    /// Whether the numbers are within their limits, for a cluster of `n` copies; the text says which is not.
    pub fn check(&self, n: usize) -> Result<(), String> {
        self.r.resolve(n).map_err(|e| alloc::format!("r: {e}"))?;
        self.w.resolve(n).map_err(|e| alloc::format!("w: {e}"))?;
        if self.value_bytes_max == 0 || self.value_bytes_max > VALUE_BYTES_MAX as u64 {
            return Err(alloc::format!(
                "value_bytes_max is {}: use 1 to {VALUE_BYTES_MAX}",
                self.value_bytes_max
            ));
        }
        if self.siblings_max == 0 || self.siblings_max > SIBLINGS_MAX as u64 {
            return Err(alloc::format!("siblings_max is {}: use 1 to {SIBLINGS_MAX}", self.siblings_max));
        }
        Ok(())
    }
}

/// Settings with what decides between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketFact {
    /// The settings.
    pub settings: BucketSettings,
    /// When they were set, in the hybrid time of the node that took them.
    pub stamp: Stamp,
    /// That node.
    pub author: NodeId,
}

/// The settings of every bucket that has any; merging two maps is commutative, associative, idempotent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buckets {
    facts: BTreeMap<String, BucketFact>,
}

impl Buckets {
    /// No bucket has settings of its own.
    pub const fn new() -> Buckets {
        Buckets { facts: BTreeMap::new() }
    }

    /// The settings in force for a bucket.
    pub fn settings(&self, bucket: &str) -> BucketSettings {
        self.facts
            .get(bucket)
            .map_or_else(|| BucketSettings::default_of(bucket), |fact| fact.settings.clone())
    }

    /// Takes a fact if it wins; says whether it did.
    pub fn merge_one(&mut self, bucket: &str, fact: BucketFact) -> bool {
        match self.facts.get(bucket) {
            Some(mine) if rank(mine) >= rank(&fact) => false,
            _ => {
                self.facts.insert(bucket.to_string(), fact);
                true
            }
        }
    }

    /// Takes everything that wins; says whether anything did.
    pub fn merge(&mut self, other: &Buckets) -> bool {
        other
            .facts
            .iter()
            .fold(false, |changed, (bucket, fact)| self.merge_one(bucket, fact.clone()) | changed)
    }

    /// In order of name.
    pub fn facts(&self) -> impl Iterator<Item = (&str, &BucketFact)> {
        self.facts.iter().map(|(name, fact)| (name.as_str(), fact))
    }

    /// Buckets that have settings.
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// A hash of the whole map, so that peers need not send what both have.
    pub fn digest(&self) -> u64 {
        let mut w = Writer::new();
        for (name, fact) in &self.facts {
            write_bucket_fact(&mut w, name, fact);
        }
        xxhash_rust::xxh3::xxh3_64(w.as_slice())
    }
}

/// Appends one bucket's fact.
pub fn write_bucket_fact(w: &mut Writer, name: &str, fact: &BucketFact) {
    w.slice(name.as_bytes());
    w.u64(fact.stamp.0);
    w.u64(fact.author.0);
    write_settings(w, &fact.settings);
}

fn write_settings(w: &mut Writer, settings: &BucketSettings) {
    w.u8(level_byte(settings.r));
    w.u8(level_byte(settings.w));
    w.u8(match settings.mode {
        Mode::Siblings => 0,
        Mode::Lww => 1,
    });
    w.varint(settings.ttl_ms);
    w.u8(u8::from(settings.require_context) | u8::from(settings.buffered) << 1);
    w.varint(settings.value_bytes_max);
    w.varint(settings.siblings_max);
}

fn rank(fact: &BucketFact) -> (Stamp, NodeId, Vec<u8>) {
    let mut w = Writer::new();
    write_settings(&mut w, &fact.settings);
    (fact.stamp, fact.author, w.into_vec())
}

/// Reads one bucket's fact.
pub fn read_bucket_fact(r: &mut Reader<'_>) -> Result<(String, BucketFact), BadBytes> {
    let name = r.text()?.to_string();
    let stamp = Stamp(r.u64()?);
    let author = NodeId(r.u64()?);
    let (r_level, w_level) = (level_of(r.u8()?)?, level_of(r.u8()?)?);
    let mode = if flag_of(r.u8()?)? { Mode::Lww } else { Mode::Siblings };
    let ttl_ms = r.varint()?;
    let flags = Some(r.u8()?).filter(|&flags| flags < 4).ok_or(BadBytes::Malformed)?;
    let settings = BucketSettings {
        r: r_level,
        w: w_level,
        mode,
        ttl_ms,
        require_context: flags & 1 != 0,
        buffered: flags & 2 != 0,
        value_bytes_max: r.varint()?,
        siblings_max: r.varint()?,
    };
    crate::id::check_bucket(&name).map_err(|_| BadBytes::Malformed)?;
    Ok((name, BucketFact { settings, stamp, author }))
}

fn level_byte(level: Level) -> u8 {
    match level {
        Level::One => 253,
        Level::Quorum => 254,
        Level::All => 255,
        Level::Count(count) => count.min(COUNT_MAX),
    }
}

fn level_of(byte: u8) -> Result<Level, BadBytes> {
    match byte {
        0 => Err(BadBytes::Malformed),
        253 => Ok(Level::One),
        254 => Ok(Level::Quorum),
        255 => Ok(Level::All),
        count => Ok(Level::Count(count)),
    }
}

fn flag_of(byte: u8) -> Result<bool, BadBytes> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(BadBytes::Malformed),
    }
}

/// The largest count that a byte can say; far more than there can be copies.
const COUNT_MAX: u8 = 252;
