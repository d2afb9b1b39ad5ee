//! What the command line says when it is used wrongly, or when there is nobody to talk to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

use std::process::{Command, Output};

fn gramme(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gramme"));
    command
        .args(arguments)
        .env("GRAMME_NODE", "http://127.0.0.1:1")
        .env_remove("GRAMME_TOKEN")
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn every_failure_is_one_sentence_with_an_exit_code_that_scripts_can_tell_apart() {
    let cases: &[(&[&str], i32, &str)] = &[
        (
            &["get", "carts", "u42"],
            1,
            "gramme: no node could be reached (http://127.0.0.1:1: connection refused): start a cluster with `gramme dev`, or name a node with --node or GRAMME_NODE",
        ),
        (
            &["get", "no/bucket", "k"],
            2,
            "gramme: the bucket name is not valid: use 1 to 64 of a-z A-Z 0-9 _ - . and do not begin with a dot",
        ),
        (&["get", "b", ""], 2, "gramme: the key is empty: a key has 1 to 1024 bytes"),
        (
            &["get", "b", "k", "--node", "ftp://x:1"],
            2,
            "gramme: \"ftp://x:1\" is no node address (ftp is not spoken here): write http://host:port",
        ),
        (
            &["import", "data", "--bucket", "b", "--key", "k"],
            2,
            "gramme: the file's name does not say what it holds: add --format tsv, csv or jsonl",
        ),
        (
            &["import", "/nowhere.tsv", "--bucket", "b", "--key", "k"],
            1,
            "gramme: cannot read /nowhere.tsv: No such file or directory (os error 2)",
        ),
        (&["bucket", "set", "b", "r"], 2, "gramme: \"r\" is no setting: write NAME=VALUE, such as r=one"),
        (
            &["dev", "status", "--dir", "/nowhere"],
            1,
            "gramme: no `gramme dev` runs on /nowhere: start it there, or name its directory with --dir",
        ),
        (
            &["server", "--config", "/nowhere.toml"],
            2,
            "gramme: the settings file /nowhere.toml cannot be read: No such file or directory (os error 2)",
        ),
        (
            &["doctor", "--data", "/nowhere"],
            2,
            "gramme: /nowhere is no directory: name a node's storage.data_dir",
        ),
        (
            &["dev", "add", "--dir", "/nowhere"],
            1,
            "gramme: no `gramme dev` runs on /nowhere: start it there, or name its directory with --dir",
        ),
        (
            &["dev", "add", "--zone", "a\nb", "--dir", "/nowhere"],
            2,
            "gramme: \"a\\nb\" names no zone: use 1 to 240 bytes of text on one line",
        ),
        (
            &["dev", "remove", "1", "--dir", "/nowhere"],
            1,
            "gramme: no `gramme dev` runs on /nowhere: start it there, or name its directory with --dir",
        ),
        (
            &["cluster", "join", "n4"],
            1,
            "gramme: no node could be reached (http://127.0.0.1:1: connection refused): start a cluster",
        ),
        (
            &["cluster", "commit", "8f3c"],
            2,
            "gramme: \"8f3c\" is no hash of a plan: write at least the first 8 of the 32 hexadecimal digits that `gramme cluster plan` shows",
        ),
        (
            &["cluster", "commit", "8f3c01d2", "--wait"],
            1,
            "gramme: no node could be reached (http://127.0.0.1:1: connection refused): start a cluster",
        ),
        (
            &["cluster", "force-commit", "8f3c01d2"],
            2,
            "gramme: a forced commit asks nobody and begins a lineage that fences the old one, so two halves of a cluster that both live would part for good: if a majority of the members will never come back, add --yes-majority-is-lost",
        ),
        (
            &["transfers", "--watch"],
            1,
            "gramme: no node could be reached (http://127.0.0.1:1: connection refused): start a cluster",
        ),
        (
            &["transfers", "pause"],
            1,
            "gramme: no node could be reached (http://127.0.0.1:1: connection refused): start a cluster",
        ),
        (&["cluster", "show", "/dev/null"], 1, "gramme: the cluster file /dev/null is garbled"),
    ];
    for (arguments, code, words) in cases {
        let output = gramme(arguments);
        let told = stderr(&output);
        assert!(
            told.starts_with(words) && told.lines().count() == 1,
            "gramme {}: {told}",
            arguments.join(" ")
        );
        assert_eq!(output.status.code(), Some(*code), "gramme {}", arguments.join(" "));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_node_that_asks_to_join_is_named_once_and_for_ever() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("gramme.toml");
    std::fs::write(&file, "[node]\nname = \"late\"\n").unwrap();
    let start = |flags: &[&str]| gramme(&[&["server", "--config", file.to_str().unwrap()], flags].concat());
    for (flags, words) in [
        (&[][..], "gramme: node.id is missing"),
        (&["--jion", "127.0.0.1:1"], "error: unexpected argument '--jion' found"),
        (&["--join", "n1"], "gramme: command line: cluster.seeds is \"n1\": write host:port"),
    ] {
        let refused = start(flags);
        assert_eq!(refused.status.code(), Some(2));
        assert!(stderr(&refused).starts_with(words), "{}", stderr(&refused));
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "[node]\nname = \"late\"\n");

    // It has no cluster file yet, and says so.
    let named = stderr(&start(&["--join", "127.0.0.1:1", "--join", "127.0.0.1:2"]));
    assert!(
        named.starts_with("gramme: this node is ") && named.contains("there is no cluster file"),
        "{named}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let id = named["gramme: this node is ".len()..].split(' ').next().unwrap();
    assert_eq!(text, format!("[node]\nid = \"{id}\"\nname = \"late\"\n"));
    let again = stderr(&start(&["--join", "127.0.0.1:1"]));
    assert!(!again.contains("this node is") && again.contains("there is no cluster file"), "{again}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_key_column_that_is_not_there_is_answered_with_those_that_are() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("rows.tsv");
    std::fs::write(&file, "name\tversion\nx\t1\n").unwrap();
    let output = gramme(&["import", file.to_str().unwrap(), "--bucket", "b", "--key", "id"]);
    assert!(
        stderr(&output).contains("there is no column \"id\" to take keys from: the file has name, version")
    );
}

#[test]
fn a_cluster_is_made_once_with_a_sound_directory_for_each_node() {
    let place = tempfile::tempdir().unwrap();
    let list = place.path().join("nodes.toml");
    let mut text = String::new();
    for node in 1..=4 {
        text.push_str(&format!(
            "[[node]]\nname = \"n{node}\"\naddress = \"127.0.0.{node}:7402\"\nhttp = \"127.0.0.{node}:7400\"\nzone = \"z{}\"\n",
            node % 2
        ));
    }
    std::fs::write(&list, &text).unwrap();
    let out = place.path().join("shop");
    let init = ["cluster", "init", "--nodes", list.to_str().unwrap(), "--out", out.to_str().unwrap()];
    let made = gramme(&init);
    assert!(made.status.success(), "{}", stderr(&made));
    let shown = String::from_utf8(made.stdout).unwrap();
    assert!(shown.contains("4 nodes, N=3, 256 partitions") && shown.contains("25.0%"), "{shown}");
    let files: Vec<Vec<u8>> =
        (1..=4).map(|node| std::fs::read(out.join(format!("n{node}/cluster.gramme"))).unwrap()).collect();
    assert!(files.iter().all(|file| file == &files[0]), "all nodes have the same cluster file");
    for node in 1..=4 {
        let checked =
            gramme(&["config", "check", out.join(format!("n{node}/gramme.toml")).to_str().unwrap()]);
        assert!(checked.status.success(), "{}", stderr(&checked));
    }
    let again = gramme(&init);
    assert!(stderr(&again).contains("exists already: nothing was written"), "{}", stderr(&again));
    assert_eq!(std::fs::read(out.join("n1/cluster.gramme")).unwrap(), files[0]);
}

#[test]
fn a_list_of_nodes_that_makes_no_cluster_is_refused_and_nothing_is_written() {
    let place = tempfile::tempdir().unwrap();
    let node = |name: &str, address: &str| {
        format!("[[node]]\nname = \"{name}\"\naddress = \"{address}\"\nhttp = \"10.0.0.1:7400\"\n")
    };
    for (text, refusal) in [
        (String::new(), "lists no node"),
        (node("a", "10.0.0.1:7402"), "1 members cannot keep 3 copies on distinct nodes"),
        (node("a/b", "10.0.0.1:7402"), "cannot name a node"),
        (node("a", "10.0.0.1"), "address is \"10.0.0.1\": write host:port"),
        (node("a", "10.0.0.1:7402") + "adress = 1\n", "unknown field `adress`"),
    ] {
        let list = place.path().join("nodes.toml");
        std::fs::write(&list, &text).unwrap();
        let out = place.path().join("out");
        let output =
            gramme(&["cluster", "init", "--nodes", list.to_str().unwrap(), "--out", out.to_str().unwrap()]);
        assert!(!output.status.success() && stderr(&output).contains(refusal), "{}", stderr(&output));
        assert!(!out.exists());
    }
}

#[test]
fn a_settings_file_with_mistakes_is_answered_with_all_of_them() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("gramme.toml");
    std::fs::write(&file, "[listen]\nhtpp = \"x\"\n[server]\nshards = -1\n").unwrap();
    let output = gramme(&["config", "check", file.to_str().unwrap()]);
    let told = stderr(&output);
    assert!(told.contains("did you mean listen.http?") && told.contains("server.shards is -1"), "{told}");
    assert!(told.lines().all(|line| line.starts_with("gramme: ")), "{told}");
}

#[test]
fn completions_know_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output = gramme(&["completions", shell]);
        assert!(String::from_utf8(output.stdout).unwrap().contains("import"), "{shell}");
    }
}
