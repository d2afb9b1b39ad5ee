//! The directory a disk store lives in: who may open it, and whether these bytes are ours.
//!
//! Two processes in one store destroy it, and so does a program that misreads its format. Before the
//! database itself is touched, the directory is therefore locked, and its `FORMAT` file must say, under
//! a checksum, that a store of a known version lies beside it. A directory that fails any check is left
//! exactly as it was found.
//!
//! ```text
//! DIRECTORY/lock     empty; locked for as long as the store is open
//! DIRECTORY/FORMAT   24 bytes, written once, before the database:
//!                    0  8  magic "GRAMSTOR"
//!                    8  4  format version, big-endian
//!                   12  4  zero
//!                   16  8  XXH3-64 of bytes 0 to 15, big-endian
//! DIRECTORY/SUSPECT  empty; there if merging tables failed: the next open reads everything before it goes on
//! DIRECTORY/fjall/   the database
//! ```
//! These 24 bytes keep their meaning in every later version, so that every version can name another.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64;

/// The version of the files in a store's directory that this program writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Why a store could not be opened; the directory is as it was.
#[derive(Debug)]
pub enum OpenError {
    /// Another process, or another part of this one, has the store open.
    InUse {
        /// The store's directory.
        path: PathBuf,
    },
    /// The store was written by a newer program.
    Newer {
        /// The store's directory.
        path: PathBuf,
        /// The version its FORMAT file names.
        found: u32,
    },
    /// The FORMAT file is missing or garbled, though there is a database beside it.
    Garbled {
        /// The FORMAT file.
        path: PathBuf,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The database's own files are damaged.
    Corrupt {
        /// The store's directory.
        path: PathBuf,
        /// Where the damage was met.
        cause: String,
    },
    /// The operating system refused something.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What it said.
        cause: String,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::InUse { path } => write!(
                f,
                "the store in {} is open in another process; stop that process, or give this one a directory of its own",
                path.display()
            ),
            OpenError::Newer { path, found } => write!(
                f,
                "the store in {} has format version {found}, and this program knows versions up to {FORMAT_VERSION}; start the newer program on it",
                path.display()
            ),
            OpenError::Garbled { path, cause } => write!(
                f,
                "{} {cause}, so the store beside it cannot be trusted; restore the directory from a backup, or move it away and let this node refill from its peers",
                path.display()
            ),
            OpenError::Corrupt { path, cause } => write!(
                f,
                "the store in {} is damaged ({cause}); restore the directory from a backup, or move it away and let this node refill from its peers",
                path.display()
            ),
            OpenError::Io { path, cause } => {
                write!(
                    f,
                    "the store cannot use {}: {cause}; it needs a directory that this process may read and write, on a disk with space",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for OpenError {}

/// A directory that this process, and no other, may use as a store; unlocked when dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks the directory and checks its FORMAT file; creates both if there is no store yet.
    pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
        let is_new = !path.exists();
        fs::create_dir_all(path).map_err(|e| refused(path, &e))?;
        let lock_path = path.join("lock");
        let lock = OpenOptions::new().create(true).write(true).truncate(false).open(&lock_path);
        let lock = lock.map_err(|e| refused(&lock_path, &e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(e)) => return Err(refused(&lock_path, &e)),
        }
        let directory = Directory { path: path.to_owned(), _lock: lock };
        directory.check_format()?;
        if is_new && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_directory(parent)?;
        }
        directory.clear_half_created_database()?;
        Ok(directory)
    }

    /// Where the database lies.
    pub(crate) fn database_path(&self) -> PathBuf {
        self.path.join("fjall")
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.path.join("FORMAT");
        match fs::read(&path) {
            Ok(bytes) => match parse_format(&bytes) {
                Ok(FORMAT_VERSION) => Ok(()),
                Ok(found) if found > FORMAT_VERSION => {
                    Err(OpenError::Newer { path: self.path.clone(), found })
                }
                Ok(_) => Err(OpenError::Garbled { path, cause: "names a version that never existed" }),
                Err(cause) => Err(OpenError::Garbled { path, cause }),
            },
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                if self.database_path().exists() {
                    return Err(OpenError::Garbled { path, cause: "is missing" });
                }
                self.write_format(&path).map_err(|e| refused(&path, &e))?;
                sync_directory(&self.path)
            }
            Err(e) => Err(refused(&path, &e)),
        }
    }

    /// Under another name first: a crash leaves a whole FORMAT file or none.
    fn write_format(&self, path: &Path) -> io::Result<()> {
        let partial = self.path.join("FORMAT.tmp");
        let mut file = File::create(&partial)?;
        file.write_all(&format_bytes(FORMAT_VERSION))?;
        file.sync_all()?;
        fs::rename(&partial, path)
    }

    /// A crash in the first moments of a store leaves a database without its version marker, which the
    /// database then neither opens nor creates anew. Its `keyspaces` directory gets its first entry only
    /// after the marker is durable: while that directory is empty, nothing was ever stored.
    fn clear_half_created_database(&self) -> Result<(), OpenError> {
        let database = self.database_path();
        if !database.exists() || database.join("version").exists() {
            return Ok(());
        }
        let keyspaces = database.join("keyspaces");
        let is_empty = match fs::read_dir(&keyspaces) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(refused(&keyspaces, &e)),
        };
        if !is_empty {
            let cause = "the database's version marker is missing".to_owned();
            return Err(OpenError::Corrupt { path: self.path.clone(), cause });
        }
        fs::remove_dir_all(&database).map_err(|e| refused(&database, &e))
    }
}

/// The contents of a FORMAT file of this version.
fn format_bytes(version: u32) -> [u8; FORMAT_BYTES] {
    let mut bytes = [0; FORMAT_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&version.to_be_bytes());
    let checksum = xxh3_64(&bytes[..16]);
    bytes[16..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The version a FORMAT file names, or what is wrong with the file.
fn parse_format(bytes: &[u8]) -> Result<u32, &'static str> {
    let bytes: &[u8; FORMAT_BYTES] = bytes.try_into().map_err(|_| "does not have 24 bytes")?;
    let version = u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if bytes[..8] != MAGIC[..] {
        return Err("does not begin like the FORMAT file of a store");
    }
    if *bytes != format_bytes(version) {
        return Err("fails its checksum");
    }
    Ok(version)
}

/// Notes that the database failed in the background. What cannot be noted will fail again.
pub(crate) fn suspect(path: &Path) {
    let _ = File::create(path.join(SUSPECT)).and_then(|mark| mark.sync_all());
}

/// Whether the store failed in the background when it was last open.
pub(crate) fn is_suspect(path: &Path) -> bool {
    path.join(SUSPECT).exists()
}

/// Everything was read and found sound.
pub(crate) fn clear_suspicion(path: &Path) -> Result<(), OpenError> {
    let mark = path.join(SUSPECT);
    fs::remove_file(&mark).map_err(|e| refused(&mark, &e))
}

pub(crate) fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(|e| refused(path, &e))
}

/// Makes the names of everything in here durable, down to the last directory. A file that is synced in a directory
/// that is not may be gone after a power cut, and with it all that was written to it.
pub(crate) fn sync_directories(path: &Path) -> Result<(), OpenError> {
    for entry in fs::read_dir(path).map_err(|e| refused(path, &e))? {
        let entry = entry.map_err(|e| refused(path, &e))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            sync_directories(&entry.path())?;
        }
    }
    sync_directory(path)
}

pub(crate) fn refused(path: &Path, cause: &io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), cause: cause.to_string() }
}

const MAGIC: &[u8; 8] = b"GRAMSTOR";
const SUSPECT: &str = "SUSPECT";
const FORMAT_BYTES: usize = 24;

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test's unwrap is its assertion
mod tests {
    use super::*;

    #[test]
    fn the_golden_format_file_of_version_1_is_read_and_written() {
        let golden = include_bytes!("../tests/golden/FORMAT-1");
        assert_eq!(parse_format(golden), Ok(1));
        assert_eq!(format_bytes(1), *golden);
    }

    #[test]
    fn every_flipped_bit_of_the_format_file_is_noticed() {
        for bit in 0..FORMAT_BYTES * 8 {
            let mut bytes = format_bytes(FORMAT_VERSION);
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_format(&bytes).is_err(), "bit {bit}");
        }
        assert!(parse_format(&format_bytes(FORMAT_VERSION)[..23]).is_err());
        assert!(parse_format(b"").is_err());
    }

    #[test]
    fn a_directory_opens_again_after_it_was_let_go_and_not_before() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a/b/store");
        let held = Directory::open(&path).unwrap();
        let second = Directory::open(&path).unwrap_err();
        assert!(matches!(second, OpenError::InUse { .. }), "{second}");
        drop(held);
        Directory::open(&path).unwrap();
    }

    #[test]
    fn a_store_of_a_newer_program_is_refused_by_its_version() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("FORMAT"), format_bytes(7)).unwrap();
        let refusal = Directory::open(place.path()).unwrap_err();
        assert!(matches!(refusal, OpenError::Newer { found: 7, .. }), "{refusal}");
        assert!(refusal.to_string().contains("format version 7"));
        assert_eq!(fs::read(place.path().join("FORMAT")).unwrap(), format_bytes(7));
    }

    #[test]
    fn a_database_without_its_format_file_is_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("fjall")).unwrap();
        let refusal = Directory::open(place.path()).unwrap_err();
        assert!(matches!(refusal, OpenError::Garbled { cause: "is missing", .. }), "{refusal}");
    }

    #[test]
    fn a_database_that_crashed_while_it_was_created_is_created_anew() {
        let place = tempfile::tempdir().unwrap();
        drop(Directory::open(place.path()).unwrap());
        fs::create_dir_all(place.path().join("fjall/keyspaces")).unwrap();
        fs::write(place.path().join("fjall/0.jnl"), b"").unwrap();
        drop(Directory::open(place.path()).unwrap());
        assert!(!place.path().join("fjall").exists());

        fs::create_dir_all(place.path().join("fjall/keyspaces/1")).unwrap();
        let refusal = Directory::open(place.path()).unwrap_err();
        assert!(matches!(refusal, OpenError::Corrupt { .. }), "{refusal}");
    }
}
