//! Nodes that come to a development cluster and go from it. A new one gets the next number, an id of its own and the
//! cluster file of all, and asks the running ones to join; one that is gone is never started again.
//!
//! Invariant: `dev.toml` says so durably before a node is started, and before one that is gone is stopped. A directory
//! that it does not count was never started, and is made anew.

use super::NODES_MAX;
use super::directory::{DEV_FILE, DevCluster, Guest, Made, check_room, settings, write};
use crate::cluster::{SETTINGS_FILE, fresh_id};
use crate::failure::Failure;
use gramme_core::limits::MEMBER_TEXT_BYTES_MAX;
use std::fs::{self, File};

impl DevCluster {
    /// Makes the directory of another node, which is to reach the cluster through the peer doors of `seeds`; gives its
    /// number.
    pub(super) fn add(&mut self, zone: Option<&str>, seeds: &[String]) -> Result<usize, Failure> {
        let node = self.nodes();
        let made = Made { nodes: self.made.nodes + 1, ..self.made.clone() };
        if i64::from(made.nodes) > NODES_MAX {
            return Err(Failure::failed(format!(
                "a development cluster has had {NODES_MAX} nodes at most, and this one has: more are a real cluster"
            )));
        }
        check_room(&made)?;
        self.check_ports_of(node)?;
        let dir = self.node_dir(node);
        if dir.join(DATA_DIR).exists() {
            return Err(Failure::failed(format!(
                "{} holds data of a node that {DEV_FILE} knows nothing of: move it away",
                dir.display()
            )));
        }
        fs::create_dir_all(&dir).map_err(|e| Failure::io("cannot make", &dir, &e))?;
        let path = dir.join(SETTINGS_FILE);
        write(&path, &settings(&made, node, fresh_id()?, &guest(node, zone, seeds)))?;
        for place in [&path, &dir] {
            File::open(place)
                .and_then(|file| file.sync_all())
                .map_err(|e| Failure::io("cannot sync", place, &e))?;
        }
        self.record(made)?;
        Ok(node)
    }

    /// It is gone for good.
    pub(super) fn remove(&mut self, node: usize) -> Result<(), Failure> {
        let mut made = self.made.clone();
        made.removed.extend(u16::try_from(node));
        self.record(made)
    }

    /// Says it durably, then holds by it.
    fn record(&mut self, made: Made) -> Result<(), Failure> {
        let (path, draft) = (self.dir.join(DEV_FILE), self.dir.join(format!("{DEV_FILE}.draft")));
        let cannot = |e| Failure::io("cannot write", &path, &e);
        write(&draft, &made.text()?)?;
        File::open(&draft).and_then(|file| file.sync_all()).map_err(cannot)?;
        fs::rename(&draft, &path).map_err(cannot)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(cannot)?;
        self.made = made;
        Ok(())
    }
}

/// What a node says of itself that no layout does yet. Without another zone it fails alone, as the first ones do.
fn guest(node: usize, zone: Option<&str>, seeds: &[String]) -> Guest {
    let zone = zone.map_or_else(|| format!("zone-{node}"), str::to_string);
    let quoted = |text: String| toml::Value::String(text).to_string();
    Guest {
        node: format!("name = \"node-{node}\"\nzone = {}\n", quoted(zone)),
        cluster: format!("seeds = {}\n", quoted(seeds.join(","))),
    }
}

/// Whether a zone can be given to a node.
pub(super) fn check_zone(zone: &str) -> Result<(), Failure> {
    if zone.trim().is_empty() || zone.len() > MEMBER_TEXT_BYTES_MAX || zone.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "{zone:?} names no zone: use 1 to {MEMBER_TEXT_BYTES_MAX} bytes of text on one line"
        )));
    }
    Ok(())
}

/// As the settings name it.
const DATA_DIR: &str = "data";

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]
mod tests {
    use super::super::directory::open;
    use super::super::directory::tests::{free_port, start};
    use super::*;

    #[test]
    fn a_node_that_comes_has_the_next_number_and_one_that_is_gone_leaves_its_own_unused() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dev");
        let (mut cluster, owned) = open(&start(&dir, Some(1), Some(free_port(2)))).unwrap();
        let seeds = [cluster.peer(0)];
        assert_eq!(cluster.add(None, &seeds).unwrap(), 1);
        assert_eq!(cluster.add(Some("rack \"a\""), &seeds).unwrap(), 2);
        cluster.remove(1).unwrap();
        drop(owned);

        let (again, _owned) = open(&start(&dir, Some(1), None)).unwrap();
        assert_eq!((again.nodes(), again.is_removed(1), again.is_removed(2)), (3, true, false));
        let settings: toml::Table =
            fs::read_to_string(again.node_dir(2).join(SETTINGS_FILE)).unwrap().parse().unwrap();
        assert_eq!(settings["node"]["name"].as_str(), Some("node-2"));
        assert_eq!(settings["node"]["zone"].as_str(), Some("rack \"a\""));
        assert_eq!(settings["cluster"]["seeds"].as_str(), Some(&*seeds[0]));
        assert_eq!(settings["listen"]["peer"].as_str(), Some(&*again.peer(2)));
    }

    #[test]
    fn a_directory_that_was_never_counted_is_made_anew_unless_it_holds_data() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("dev");
        let (mut cluster, _owned) = open(&start(&dir, Some(1), Some(free_port(3)))).unwrap();
        fs::create_dir(cluster.node_dir(1)).unwrap();
        fs::write(cluster.node_dir(1).join(SETTINGS_FILE), "half of it").unwrap();
        assert_eq!(cluster.add(None, &[]).unwrap(), 1);
        fs::create_dir_all(cluster.node_dir(2).join(DATA_DIR)).unwrap();
        let refusal = cluster.add(None, &[]).unwrap_err();
        assert!(refusal.sentence().contains("knows nothing of"), "{}", refusal.sentence());
        assert_eq!(cluster.nodes(), 2);
    }

    #[test]
    fn a_zone_is_a_line_of_text() {
        assert!(check_zone("rack a").is_ok());
        for bad in ["", " ", "a\nb", &"x".repeat(MEMBER_TEXT_BYTES_MAX + 1)] {
            assert!(check_zone(bad).is_err(), "{bad:?}");
        }
    }
}
