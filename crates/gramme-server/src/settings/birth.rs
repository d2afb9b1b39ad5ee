//! How a node that asks to join gets its name for ever: a random id, written into its settings file, which stays as
//! it is otherwise.
//!
//! Invariant: the file is replaced whole or not at all, and only by one that says what it said before, and the id.

use gramme_core::NodeId;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use toml::Table;
use toml::de::DeTable;

/// Writes `node.id` into a settings file that has none; durable when this returns. The error is a sentence.
pub(super) fn write_id(path: &Path, id: NodeId) -> Result<(), String> {
    let refused = |e: io::Error| {
        format!(
            "node.id is missing, and a new one cannot be written to the settings file {}: {e}: write id = \"{id}\" into its section [node] yourself",
            path.display()
        )
    };
    // Through a link the file itself is replaced, and the link stays.
    let path = std::fs::canonicalize(path).map_err(refused)?;
    let before = std::fs::read_to_string(&path).map_err(refused)?;
    let after = with_id(&before, id).ok_or_else(|| {
        refused(io::Error::other("its section [node] is written in a way that nothing can be added to"))
    })?;
    replace(&path, &after).map_err(refused)
}

/// The text with the id in its section `[node]`; `None` if that would not say the same otherwise.
fn with_id(text: &str, id: NodeId) -> Option<String> {
    let line = format!("id = \"{id}\"\n");
    let document = DeTable::parse(text).ok()?;
    let section = document.get_ref().iter().find(|(name, _)| name.get_ref().as_ref() == "node");
    let after = match section {
        Some((name, _)) => {
            let end = text[name.span().end..].find('\n').map(|at| name.span().end + at + 1);
            match end {
                Some(end) => format!("{}{line}{}", &text[..end], &text[end..]),
                None => format!("{text}\n{line}"),
            }
        }
        None if text.is_empty() || text.ends_with('\n') => format!("{text}\n[node]\n{line}"),
        None => format!("{text}\n\n[node]\n{line}"),
    };
    let mut expected: Table = toml::from_str(text).ok()?;
    let node = expected.entry("node").or_insert_with(|| Table::new().into());
    node.as_table_mut()?.insert("id".to_owned(), id.to_string().into());
    (toml::from_str::<Table>(&after).ok()? == expected).then_some(after)
}

/// A file of the same name and rights with this text; durable when this returns.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let rights = std::fs::metadata(path)?.permissions();
    let written = write(&new, text, rights).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // What is left of it is in nobody's way, and overwritten at the next attempt.
        let _ = std::fs::remove_file(&new);
    }
    written?;
    let directory = path.parent().ok_or_else(|| io::Error::other("it lies in no directory"))?;
    File::open(directory)?.sync_all()
}

fn write(path: &Path, text: &str, rights: std::fs::Permissions) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    file.set_permissions(rights)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: NodeId = NodeId(0xa1);

    #[test]
    fn the_id_is_added_and_everything_else_stays() {
        for (before, after) in [
            ("", "\n[node]\nid = \"00000000000000a1\"\n"),
            (
                "# one\n[log]\nlevel = \"info\"",
                "# one\n[log]\nlevel = \"info\"\n\n[node]\nid = \"00000000000000a1\"\n",
            ),
            (
                "[ node ] # mine\nname = \"x\"\n[log]\n",
                "[ node ] # mine\nid = \"00000000000000a1\"\nname = \"x\"\n[log]\n",
            ),
            ("[node]", "[node]\nid = \"00000000000000a1\"\n"),
        ] {
            assert_eq!(with_id(before, ID).as_deref(), Some(after), "{before:?}");
        }
    }

    #[test]
    fn a_section_that_cannot_be_added_to_is_left_alone() {
        for text in ["node = { name = \"x\" }\n", "[node", "node = 1\n"] {
            assert_eq!(with_id(text, ID), None, "{text:?}");
        }
    }

    #[test]
    fn the_file_keeps_its_rights_and_a_link_stays_one() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let (file, link) = (place.path().join("node.toml"), place.path().join("link.toml"));
        std::fs::write(&file, "[node]\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        write_id(&link, ID).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "[node]\nid = \"00000000000000a1\"\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "nothing else is left there");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let refused = write_id(Path::new("/nowhere/node.toml"), ID).unwrap_err();
        assert!(refused.starts_with("node.id is missing, and a new one cannot be written"), "{refused}");
        assert!(refused.contains("/nowhere/node.toml") && refused.ends_with("yourself"), "{refused}");
    }
}
