//! A second look at the database's journals before it opens them, because it trusts them too much.
//!
//! fjall replays a journal up to the first thing it cannot read, cuts the file there and goes on: a
//! damaged byte in the middle silently loses every synced batch after it. And a group whose pages were
//! only half written when the power failed can look to it like a group with a wrong checksum, and then it
//! does not open at all. One committer writes one group at a time and syncs it before the next, which
//! tells the two apart:
//!
//! - Damage with a whole group anywhere after it is damage to synced bytes: the store is refused.
//! - Damage with nothing whole after it, after a crash, is the group that was being written: it is cut,
//!   whole. (Rot of exactly the last synced group looks the same, and is cut too.)
//! - After a clean close the `CLEAN` file says where the journal ends: any other end is refused.
//!
//! Journal files are only ever read here, or cut at the end of a whole group; never written.
//!
//! ```text
//! fjall 3 journal: groups, then zeros or the end of the file. Integers are little-endian.
//!   start  1  u32 number of changes  u64 sequence number, growing from group to group
//!   change 2  u8 kind  u8 compression (0)  u64 keyspace  u16 key length  u32 value length  u32 stored length  key  value
//!   clear  4  u64 keyspace
//!   end    3  u64 XXH3-64 of all changes  "FJL" 3
//! CLEAN, 32 bytes, big-endian: "GRAMCLEN"  u64 number of the last journal  u64 its length  u64 XXH3-64 of the first 24
//! ```

use crate::directory::{OpenError, refused, sync_directory};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What the check found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalCheck {
    /// Whether the store had been closed cleanly.
    pub was_clean: bool,
    /// Bytes of a half-written last group that were cut off.
    pub cut_bytes: u64,
}

/// Checks the journals of the database in `store/fjall`, and cuts a half-written last group.
pub(crate) fn check(store: &Path, database: &Path) -> Result<JournalCheck, OpenError> {
    let clean = read_clean_mark(store)?;
    let journals = journals_of(database)?;
    let mut seqno = None;
    let mut torn: Option<(&Path, Extent)> = None;
    for (index, (number, path)) in journals.iter().enumerate() {
        let extent = extent_of(path, &mut seqno).map_err(|e| refused(path, &e))?;
        let damage = |path: &Path, cause: &str, at: u64| {
            let cause = format!("{} {cause} at byte {at}", path.display());
            Err(OpenError::Corrupt { path: store.to_owned(), cause })
        };
        if let Some((torn_path, torn_extent)) = torn
            && extent != (Extent { whole: 0, rest: 0 })
        {
            return damage(torn_path, "is unreadable, with a journal after it,", torn_extent.whole);
        }
        if let Some((clean_number, clean_length)) = clean
            && index + 1 == journals.len()
            && (*number, extent.whole, extent.rest) != (clean_number, clean_length, 0)
        {
            let cause = format!("should be whole up to byte {clean_length}, and is unreadable");
            return damage(path, &cause, extent.whole);
        }
        if extent.rest > 0 {
            if holds_whole_group(path, extent.whole).map_err(|e| refused(path, &e))? {
                return damage(path, "is unreadable, with whole groups after that,", extent.whole);
            }
            torn = Some((path, extent));
        }
    }
    let cut_bytes = torn.map_or(0, |(_, extent)| extent.rest);
    if let Some((path, extent)) = torn {
        cut(path, extent.whole).map_err(|e| refused(path, &e))?;
    }
    Ok(JournalCheck { was_clean: clean.is_some(), cut_bytes })
}

/// Says durably that the store was closed with everything synced.
pub(crate) fn write_clean_mark(store: &Path, database: &Path) -> Result<(), OpenError> {
    let Some((number, path)) = journals_of(database)?.pop() else { return Ok(()) };
    let extent = extent_of(&path, &mut None).map_err(|e| refused(&path, &e))?;
    if extent.rest > 0 {
        return Ok(());
    }
    let mark = store.join("CLEAN");
    let write = || {
        let mut file = File::create(&mark)?;
        file.write_all(&clean_bytes(number, extent.whole))?;
        file.sync_all()
    };
    write().map_err(|e| refused(&mark, &e))?;
    sync_directory(store)
}

/// Takes the mark away, durably, before the first write.
pub(crate) fn remove_clean_mark(store: &Path) -> Result<(), OpenError> {
    let mark = store.join("CLEAN");
    match fs::remove_file(&mark) {
        Ok(()) => sync_directory(store),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(refused(&mark, &e)),
    }
}

/// The number and length of the last journal at a clean close. A mark that is torn or garbled proves
/// nothing, like none at all.
fn read_clean_mark(store: &Path) -> Result<Option<(u64, u64)>, OpenError> {
    let mark = store.join("CLEAN");
    let bytes = match fs::read(&mark) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(refused(&mark, &e)),
    };
    let Ok(bytes) = <[u8; CLEAN_BYTES]>::try_from(bytes) else { return Ok(None) };
    let word = |from: usize| bytes[from..from + 8].try_into().map_or(0, u64::from_be_bytes);
    let (number, length) = (word(8), word(16));
    Ok((bytes == clean_bytes(number, length)).then_some((number, length)))
}

fn clean_bytes(number: u64, length: u64) -> [u8; CLEAN_BYTES] {
    let mut bytes = [0; CLEAN_BYTES];
    bytes[..8].copy_from_slice(b"GRAMCLEN");
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16..24].copy_from_slice(&length.to_be_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The journals, by ascending number.
fn journals_of(database: &Path) -> Result<Vec<(u64, PathBuf)>, OpenError> {
    let mut journals = Vec::new();
    let entries = match fs::read_dir(database) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(journals),
        Err(e) => return Err(refused(database, &e)),
    };
    for entry in entries {
        let path = entry.map_err(|e| refused(database, &e))?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".jnl"));
        if let Some(number) = number.and_then(|digits| digits.parse().ok()) {
            journals.push((number, path));
        }
    }
    journals.sort();
    Ok(journals)
}

/// How far a journal is whole, and how many bytes from there to its last one that is not zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    whole: u64,
    rest: u64,
}

fn extent_of(path: &Path, seqno: &mut Option<u64>) -> io::Result<Extent> {
    let mut reader = Counted { inner: BufReader::with_capacity(READ_BYTES, File::open(path)?), read: 0 };
    let mut whole = 0;
    while let Some(found) = read_group(&mut reader)? {
        if seqno.is_some_and(|before| found <= before) {
            break;
        }
        *seqno = Some(found);
        whole = reader.read;
    }
    let mut file = reader.inner.into_inner();
    Ok(Extent { whole, rest: length_without_zeros(&mut file, whole)? })
}

/// Reads one group. `None` if what is there is no whole group, for whatever reason.
fn read_group(reader: &mut impl Read) -> io::Result<Option<u64>> {
    match try_read_group(reader) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        other => other,
    }
}

fn try_read_group(reader: &mut impl Read) -> io::Result<Option<u64>> {
    let [TAG_START] = bytes(reader)? else { return Ok(None) };
    let changes = u32::from_le_bytes(bytes(reader)?);
    let seqno = u64::from_le_bytes(bytes(reader)?);
    let mut checksum = Xxh3::new();
    for _ in 0..changes {
        let [tag] = bytes(reader)?;
        checksum.update(&[tag]);
        match tag {
            TAG_CLEAR => checksum.update(&bytes::<8>(reader)?),
            TAG_CHANGE => {
                let head: [u8; 20] = bytes(reader)?;
                checksum.update(&head);
                let [kind, compression, .., a, b, c, d, e, f, g, h] = head;
                let key_bytes = u16::from_le_bytes([head[10], head[11]]);
                let value_bytes = u32::from_le_bytes([a, b, c, d]);
                let stored_bytes = u32::from_le_bytes([e, f, g, h]);
                if kind > 4 || compression != 0 || value_bytes != stored_bytes {
                    return Ok(None);
                }
                hash_through(reader, &mut checksum, u64::from(key_bytes) + u64::from(value_bytes))?;
            }
            _ => return Ok(None),
        }
    }
    let [TAG_END] = bytes(reader)? else { return Ok(None) };
    let stated = u64::from_le_bytes(bytes(reader)?);
    let magic: [u8; 4] = bytes(reader)?;
    Ok((stated == checksum.digest() && magic == END_MAGIC).then_some(seqno))
}

fn bytes<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Hashes the next `length` bytes without ever holding more than a few of them: the length is unchecked.
fn hash_through(reader: &mut impl Read, checksum: &mut Xxh3, mut length: u64) -> io::Result<()> {
    let mut chunk = [0; 4096];
    while length > 0 {
        let wanted = usize::try_from(length).map_or(chunk.len(), |length| length.min(chunk.len()));
        reader.read_exact(&mut chunk[..wanted])?;
        checksum.update(&chunk[..wanted]);
        length -= wanted as u64;
    }
    Ok(())
}

/// Whether a group starts at or after the byte at `from`: a readable one there is out of order.
fn holds_whole_group(path: &Path, from: u64) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let length = length_without_zeros(&mut file, from)?;
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(length).read_to_end(&mut tail)?;
    for at in 0..tail.len() {
        if tail[at] == TAG_START && read_group(&mut &tail[at..])?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Bytes from `from` up to the last one of the file that is not zero.
fn length_without_zeros(file: &mut File, from: u64) -> io::Result<u64> {
    file.seek(SeekFrom::Start(from))?;
    let mut chunk = vec![0; READ_BYTES];
    let (mut at, mut length) = (0, 0);
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(length);
        }
        if let Some(last) = chunk[..read].iter().rposition(|byte| *byte != 0) {
            length = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

fn cut(path: &Path, length: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}

/// Counts what was read through it.
struct Counted<R> {
    inner: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}

const TAG_START: u8 = 1;
const TAG_CHANGE: u8 = 2;
const TAG_END: u8 = 3;
const TAG_CLEAR: u8 = 4;
const END_MAGIC: [u8; 4] = [b'F', b'J', b'L', 3];
const CLEAN_BYTES: usize = 32;
const READ_BYTES: usize = 256 << 10;

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test's unwrap is its assertion
mod tests {
    use super::*;

    #[test]
    fn the_golden_clean_mark_is_read_and_written() {
        let golden = include_bytes!("../tests/golden/CLEAN-1");
        assert_eq!(clean_bytes(7, 123_456), *golden);
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("CLEAN"), golden).unwrap();
        assert_eq!(read_clean_mark(place.path()).unwrap(), Some((7, 123_456)));
    }

    #[test]
    fn a_garbled_clean_mark_proves_nothing() {
        let place = tempfile::tempdir().unwrap();
        for bit in 0..CLEAN_BYTES * 8 {
            let mut bytes = clean_bytes(7, 123_456);
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(place.path().join("CLEAN"), bytes).unwrap();
            assert_eq!(read_clean_mark(place.path()).unwrap(), None, "bit {bit}");
        }
        fs::write(place.path().join("CLEAN"), b"").unwrap();
        assert_eq!(read_clean_mark(place.path()).unwrap(), None);
    }

    #[test]
    fn a_length_out_of_thin_air_costs_no_memory_and_ends_the_group() {
        let mut group = vec![TAG_START, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, TAG_CHANGE, 0, 0];
        group.extend([0; 8]);
        group.extend([3, 0]);
        group.extend([0xff; 8]);
        group.extend(b"key and some of the value");
        assert_eq!(read_group(&mut &group[..]).unwrap(), None);
    }
}
