//! What a backup says of itself, and the directory in which backups stand. Form: `docs/format/backup.md`.

use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    /// The version of this form.
    pub(super) format: u32,
    /// Its name: when it was begun, in UTC.
    pub(super) name: String,
    /// Whose records these are.
    pub(super) cluster: String,
    /// Partitions of its ring.
    pub(super) partitions: u16,
    /// Settings of buckets that have any of their own.
    pub(super) buckets: Vec<Json>,
    /// In order; those without records are there too.
    pub(super) parts: Vec<Part>,
}

/// The records of one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// Which.
    pub(super) partition: u16,
    /// The file, relative to the directory of the backups; none if there are no records.
    pub(super) file: Option<String>,
    /// Records, tombstones included.
    pub(super) records: u64,
    /// Bytes of the file.
    pub(super) bytes: u64,
    /// xxh3-64 of the file, in hexadecimal.
    pub(super) checksum: String,
    /// What its homes had seen before the first page; none if they did not agree.
    pub(super) seen: Option<String>,
}

impl Manifest {
    pub(super) fn records(&self) -> u64 {
        self.parts.iter().map(|part| part.records).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Parts whose files an earlier backup has written.
    pub(super) fn reused(&self) -> usize {
        let own = format!("{}/", self.name);
        self.parts
            .iter()
            .filter(|part| part.file.as_ref().is_some_and(|file| !file.starts_with(&own)))
            .count()
    }

    pub(super) fn part(&self, partition: u16) -> Option<&Part> {
        self.parts.iter().find(|part| part.partition == partition)
    }
}

/// A directory of backups.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    dir: PathBuf,
}

impl Shelf {
    /// An existing one.
    pub(super) fn open(dir: &Path) -> Result<Shelf, Failure> {
        match std::fs::metadata(dir) {
            Ok(found) if found.is_dir() => Ok(Shelf { dir: dir.to_path_buf() }),
            Ok(_) => Err(Failure::usage(format!("{} is no directory", dir.display()))),
            Err(e) => Err(Failure::io("cannot look into", dir, &e)),
        }
    }

    /// The same, made if it is not there.
    pub(super) fn make(dir: &Path) -> Result<Shelf, Failure> {
        std::fs::create_dir_all(dir).map_err(|e| Failure::io("cannot make", dir, &e))?;
        Shelf::open(dir)
    }

    pub(super) fn path(&self, within: &str) -> PathBuf {
        self.dir.join(within)
    }

    /// The names of complete backups, oldest first.
    pub(super) fn names(&self) -> Result<Vec<String>, Failure> {
        let entries =
            std::fs::read_dir(&self.dir).map_err(|e| Failure::io("cannot look into", &self.dir, &e))?;
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| Failure::io("cannot look into", &self.dir, &e))?;
            if let Ok(name) = entry.file_name().into_string()
                && !name.ends_with(PARTIAL)
                && entry.path().join(MANIFEST).is_file()
            {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn newest(&self) -> Result<Option<Manifest>, Failure> {
        self.names()?.last().map(|name| self.manifest(name)).transpose()
    }

    pub(super) fn manifest(&self, name: &str) -> Result<Manifest, Failure> {
        let path = self.dir.join(name).join(MANIFEST);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Failure::missing(format!(
                    "there is no backup {name:?} in {}: `gramme backup list {}` shows those that are there",
                    self.dir.display(),
                    self.dir.display()
                )));
            }
            Err(e) => return Err(Failure::io("cannot read", &path, &e)),
        };
        let manifest: Manifest = serde_json::from_slice(&bytes)
            .map_err(|e| Failure::failed(format!("{} is damaged: {e}", path.display())))?;
        if manifest.format != FORMAT {
            return Err(Failure::failed(format!(
                "{} has format {}, which this release does not know: use the release that wrote it",
                path.display(),
                manifest.format
            )));
        }
        Ok(manifest)
    }

    /// Begins a backup at this time: its name, and where it is written until it is complete. A second one of
    /// the same second is told apart by a number.
    pub(super) fn begin(&self, time: &str) -> Result<(String, PathBuf), Failure> {
        for number in 1.. {
            let name = if number == 1 { time.to_string() } else { format!("{time}-{number}") };
            let partial = self.dir.join(format!("{name}{PARTIAL}"));
            if self.dir.join(&name).exists() {
                continue;
            }
            match std::fs::create_dir(&partial) {
                Ok(()) => return Ok((name, partial)),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(Failure::io("cannot make", &partial, &e)),
            }
        }
        unreachable!("there is always a number that nobody has taken")
    }

    /// Makes a backup complete: its manifest last, then its name, each durable before the next.
    pub(super) fn complete(&self, partial: &Path, manifest: &Manifest) -> Result<(), Failure> {
        let path = partial.join(MANIFEST);
        let text = serde_json::to_vec_pretty(manifest).map_err(std::io::Error::from)?;
        write_durably(&path, &text)?;
        let whole = self.dir.join(&manifest.name);
        std::fs::rename(partial, &whole).map_err(|e| Failure::io("cannot name", &whole, &e))?;
        sync_dir(&self.dir)
    }
}

/// Writes a file and waits until it is on the disk.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = std::fs::File::create(path).and_then(|mut file| {
        std::io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    });
    written.map_err(|e| Failure::io("cannot write", path, &e))
}

fn sync_dir(dir: &Path) -> Result<(), Failure> {
    let synced = std::fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|e| Failure::io("cannot sync", dir, &e))
}

/// The form's version.
pub(super) const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
const PARTIAL: &str = ".partial";

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str) -> Manifest {
        let part = |partition, file: Option<String>| Part {
            partition,
            records: u64::from(file.is_some()),
            bytes: 0,
            checksum: "00".to_string(),
            seen: None,
            file,
        };
        let parts = vec![
            part(0, Some("20250101T000000Z/p0000.rows".to_string())),
            part(1, Some(format!("{name}/p0001.rows"))),
            part(2, None),
        ];
        Manifest {
            format: FORMAT,
            name: name.to_string(),
            cluster: "c".to_string(),
            partitions: 3,
            buckets: Vec::new(),
            parts,
        }
    }

    #[test]
    fn only_complete_backups_are_on_the_shelf_and_the_newest_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::make(dir.path()).unwrap();
        assert!(shelf.newest().unwrap().is_none());
        for name in ["20260101T000000Z", "20260102T000000Z"] {
            let (_, partial) = shelf.begin(name).unwrap();
            shelf.complete(&partial, &manifest(name)).unwrap();
        }
        shelf.begin("20260103T000000Z").unwrap();
        assert_eq!(shelf.begin("20260102T000000Z").unwrap().0, "20260102T000000Z-2");
        assert_eq!(shelf.names().unwrap(), ["20260101T000000Z", "20260102T000000Z"]);
        let newest = shelf.newest().unwrap().unwrap();
        assert_eq!(newest, manifest("20260102T000000Z"));
        assert_eq!((newest.records(), newest.reused()), (2, 1));
    }

    #[test]
    fn a_damaged_or_newer_manifest_is_refused_with_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let shelf = Shelf::make(dir.path()).unwrap();
        for (name, text, said) in [("a", "{", "damaged"), ("b", "", "damaged")] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join(MANIFEST), text).unwrap();
            let failure = shelf.manifest(name).unwrap_err();
            assert!(failure.sentence().contains(said), "{}", failure.sentence());
        }
        let newer = Manifest { format: 2, ..manifest("c") };
        let (_, partial) = shelf.begin("c").unwrap();
        shelf.complete(&partial, &newer).unwrap();
        assert!(shelf.manifest("c").unwrap_err().sentence().contains("format 2"));
        assert!(shelf.manifest("d").unwrap_err().sentence().contains("no backup"));
    }
}
