//! `cluster.gramme`: what every node of one cluster must agree on before it starts. Written once by
//! `gramme cluster init` (or `gramme dev`), copied to every node, read at each start. Byte table:
//! `docs/format/cluster-file.md`.
//!
//! It holds the secret under which contexts are signed and with which nodes prove to each other that they
//! belong together, so it is readable by its owner alone. It is never rewritten by a server.

use gramme_core::codec::{BadBytes, Reader, Writer, checksum32};
use gramme_core::context::Secret;
use gramme_core::{ClusterId, Layout};
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// What the file holds.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterFile {
    /// Which cluster.
    pub cluster: ClusterId,
    /// What only its nodes know.
    pub secret: Secret,
    /// Who its members are and what each keeps: layout version 1.
    pub layout: Layout,
}

impl fmt::Debug for ClusterFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterFile({}, layout {})", self.cluster, self.layout.hash())
    }
}

/// Why a cluster file could not be used; nothing was changed.
#[derive(Debug)]
pub enum ClusterFileError {
    /// There is none.
    Missing(PathBuf),
    /// There is one already, and writing another would make its nodes strangers to each other.
    Exists(PathBuf),
    /// Its bytes are not what was written.
    Garbled(PathBuf, BadBytes),
    /// A newer release wrote it.
    Newer(PathBuf, u8),
    /// The operating system refused.
    Io(PathBuf, io::Error),
}

impl fmt::Display for ClusterFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClusterFileError::Missing(path) => write!(
                f,
                "there is no cluster file at {}: make one with `gramme cluster init`, or copy it from another node of the cluster, or say where it lies with cluster.file",
                path.display()
            ),
            ClusterFileError::Exists(path) => write!(
                f,
                "{} exists already: a cluster is made once, so remove the file yourself if you mean a new cluster",
                path.display()
            ),
            ClusterFileError::Garbled(path, why) => write!(
                f,
                "the cluster file {} is garbled ({why}): copy it again from another node of the cluster",
                path.display()
            ),
            ClusterFileError::Newer(path, found) => write!(
                f,
                "the cluster file {} has format version {found}, and this release knows {VERSION}: start the newer release",
                path.display()
            ),
            ClusterFileError::Io(path, e) => {
                write!(f, "the cluster file {} cannot be used: {e}", path.display())
            }
        }
    }
}

impl std::error::Error for ClusterFileError {}

impl ClusterFile {
    /// A new cluster of this layout: an id and a secret that nobody has seen.
    pub fn create(layout: Layout) -> Result<ClusterFile, io::Error> {
        let mut random = [0u8; 32];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let (id, secret) = random.split_at(16);
        let id = u128::from_be_bytes(id.try_into().expect("a half of 32 bytes"));
        let secret = secret.try_into().expect("a half of 32 bytes");
        Ok(ClusterFile { cluster: ClusterId(id), secret, layout })
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<ClusterFile, ClusterFileError> {
        let bytes = std::fs::read(path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => ClusterFileError::Missing(path.to_owned()),
            _ => ClusterFileError::Io(path.to_owned(), e),
        })?;
        ClusterFile::decode(&bytes).map_err(|why| match why {
            BadBytes::Version(found) => ClusterFileError::Newer(path.to_owned(), found),
            why => ClusterFileError::Garbled(path.to_owned(), why),
        })
    }

    /// Writes a file that did not exist, readable by its owner alone; durable when it returns.
    pub fn write(&self, path: &Path) -> Result<(), ClusterFileError> {
        let refused = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists => ClusterFileError::Exists(path.to_owned()),
            _ => ClusterFileError::Io(path.to_owned(), e),
        };
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(refused)?;
        file.write_all(&self.encode()).and_then(|()| file.sync_all()).map_err(refused)
    }

    /// The bytes of the file.
    pub fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new();
        w.raw(MAGIC);
        w.u8(VERSION);
        w.u128(self.cluster.0);
        w.raw(&self.secret);
        w.slice(&self.layout.encode());
        let sum = checksum32(w.as_slice());
        w.u32(sum);
        w.into_vec()
    }

    /// Reads [`ClusterFile::encode`] back.
    pub fn decode(bytes: &[u8]) -> Result<ClusterFile, BadBytes> {
        let body_len = bytes.len().checked_sub(4).ok_or(BadBytes::Malformed)?;
        let (body, sum) = bytes.split_at(body_len);
        let mut r = Reader::new(body);
        if r.raw(MAGIC.len())? != MAGIC {
            return Err(BadBytes::Malformed);
        }
        if checksum32(body).to_le_bytes() != *sum {
            return Err(BadBytes::Checksum);
        }
        match r.u8()? {
            VERSION => {}
            newer => return Err(BadBytes::Version(newer)),
        }
        let cluster = ClusterId(r.u128()?);
        let secret = r.raw(16)?.try_into().map_err(|_| BadBytes::Malformed)?;
        let layout = Layout::decode(r.slice()?)?;
        r.end()?;
        Ok(ClusterFile { cluster, secret, layout })
    }
}

const MAGIC: &[u8; 8] = b"GRAMCLUS";
const VERSION: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use gramme_core::{Member, NodeId};
    use std::os::unix::fs::PermissionsExt;

    fn sample() -> ClusterFile {
        let member = |i: u64| Member {
            id: NodeId(0xa0 + i),
            name: format!("n{i}"),
            address: format!("10.0.0.{i}:7402"),
            http: format!("10.0.0.{i}:7400"),
            zone: "east".into(),
            weight: 1,
        };
        let layout = Layout::first((0..3).map(member).collect(), 3, 4).unwrap();
        ClusterFile { cluster: ClusterId(0x0123_4567_89ab_cdef), secret: *b"sixteen secrets!", layout }
    }

    #[test]
    fn the_golden_file_of_version_1_is_read_and_written() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/cluster-1.gramme");
        if std::env::var_os("GRAMME_WRITE_GOLDEN").is_some() {
            std::fs::write(path, sample().encode()).unwrap();
        }
        let golden = std::fs::read(path).unwrap();
        assert_eq!(ClusterFile::decode(&golden), Ok(sample()));
        assert_eq!(sample().encode(), golden);
    }

    #[test]
    fn a_written_file_reads_back_and_is_its_owners_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cluster.gramme");
        let made = ClusterFile::create(sample().layout).unwrap();
        made.write(&path).unwrap();
        assert_eq!(ClusterFile::read(&path).unwrap(), made);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = ClusterFile::create(sample().layout).unwrap().write(&path).unwrap_err();
        assert!(matches!(again, ClusterFileError::Exists(_)), "{again}");
        assert_eq!(ClusterFile::read(&path).unwrap(), made, "the first cluster is untouched");
    }

    #[test]
    fn two_clusters_never_share_an_id_or_a_secret() {
        let (a, b) =
            (ClusterFile::create(sample().layout).unwrap(), ClusterFile::create(sample().layout).unwrap());
        assert!(a.cluster != b.cluster && a.secret != b.secret);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(ClusterFile::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(ClusterFile::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn each_way_to_fail_says_what_to_do() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("cluster.gramme");
        let missing = ClusterFile::read(&path).unwrap_err().to_string();
        assert!(missing.contains("gramme cluster init"), "{missing}");

        std::fs::write(&path, b"hello").unwrap();
        let garbled = ClusterFile::read(&path).unwrap_err().to_string();
        assert!(garbled.contains("garbled") && garbled.contains("copy it again"), "{garbled}");

        let mut newer = sample().encode();
        newer[8] = 9;
        let body = newer.len() - 4;
        let sum = checksum32(&newer[..body]);
        newer[body..].copy_from_slice(&sum.to_le_bytes());
        std::fs::write(&path, newer).unwrap();
        let newer = ClusterFile::read(&path).unwrap_err().to_string();
        assert!(newer.contains("format version 9"), "{newer}");
    }
}
