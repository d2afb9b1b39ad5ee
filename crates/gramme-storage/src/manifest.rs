//! A look at the lists of tables before the database reads them.
//!
//! Which tables are in force, and in which order they hide each other, stands in one small file per keyspace, `vN`.
//! The database writes that file's checksum into `current` beside it and never compares the two: one flipped bit
//! there, and older rows come back as if they were the newest. So this is compared here.
//!
//! ```text
//! fjall/keyspaces/K/current   0  8  N, little-endian
//!                             8 16  XXH3-128 of the bytes of vN, little-endian
//!                            24  1  zero
//! ```

use crate::directory::{OpenError, refused};
use std::fs;
use std::io;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_128;

/// Refuses a store whose lists of tables are not what was written. A keyspace that has none yet is new.
pub(crate) fn check(store: &Path, database: &Path) -> Result<(), OpenError> {
    let keyspaces = database.join("keyspaces");
    let entries = match fs::read_dir(&keyspaces) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(refused(&keyspaces, &e)),
    };
    for entry in entries {
        let keyspace = entry.map_err(|e| refused(&keyspaces, &e))?.path();
        let current = keyspace.join("current");
        let pointer = match fs::read(&current) {
            Ok(pointer) => pointer,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(refused(&current, &e)),
        };
        let damaged = |cause: &str| OpenError::Corrupt {
            path: store.to_owned(),
            cause: format!("{} {cause}", current.display()),
        };
        let (number, checksum) = parse(&pointer).ok_or_else(|| damaged("is garbled"))?;
        let list = keyspace.join(format!("v{number}"));
        let bytes = match fs::read(&list) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("names a list of tables that is not there"));
            }
            Err(e) => return Err(refused(&list, &e)),
        };
        if xxh3_128(&bytes) != checksum {
            return Err(damaged("and its list of tables do not belong together"));
        }
    }
    Ok(())
}

fn parse(pointer: &[u8]) -> Option<(u64, u128)> {
    let pointer: &[u8; POINTER_BYTES] = pointer.try_into().ok()?;
    let number = u64::from_le_bytes(pointer[..8].try_into().ok()?);
    let checksum = u128::from_le_bytes(pointer[8..24].try_into().ok()?);
    (pointer[24] == 0).then_some((number, checksum))
}

const POINTER_BYTES: usize = 25;
