//! Starts, stops, restarts and refusals, on disk.

use crate::cluster::{Cluster, ONE, Shape, THREE};
use gramme_server::run::{RunError, Server, Sockets};

fn disk() -> Shape {
    Shape { engine: "fjall", ..ONE }
}

#[test]
fn a_restarted_node_has_all_it_acknowledged() {
    let mut cluster = Cluster::start(&disk());
    let context = cluster.put(0, "/v1/kv/b/k", b"one").is(204).header("gramme-context").to_owned();
    cluster.put(0, "/v1/buckets/b", br#"{"ttl": 77}"#).is(200);
    cluster.stop(0);
    cluster.restart(0);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "one");
    assert_eq!(cluster.get(0, "/v1/buckets/b").json()["ttl"], 77);
    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-context", &context)], b"two").is(204);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "two", "a context outlives a restart");
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let cluster = Cluster::start(&disk());
    let mut second = cluster.nodes[0].settings.clone();
    for address in [&mut second.http, &mut second.resp, &mut second.peer] {
        *address = "127.0.0.1:0".into();
    }
    let sockets = Sockets::bind(&second).unwrap();
    let refused = Server::start(second, sockets).err().unwrap();
    assert!(matches!(refused, RunError::Store(_)), "{refused}");
    assert!(refused.to_string().contains("is open in another process"), "{refused}");
    cluster.put(0, "/v1/kv/b/k", b"x").is(204);
}

#[test]
fn a_port_in_use_is_refused_before_anything_is_touched() {
    let cluster = Cluster::start(&disk());
    let mut second = cluster.nodes[0].settings.clone();
    second.data_dir = cluster.directory.path().join("second");
    let refused =
        gramme_server::run::run(second.clone(), |_| panic!("it must not start")).unwrap_err().to_string();
    let expected = format!(
        "listen.http = {:?}: the port is in use by another process: stop that process, or choose another port",
        second.http
    );
    assert_eq!(refused, expected);
    assert!(!second.data_dir.exists());
}

#[test]
fn another_members_directory_and_a_stranger_are_refused() {
    let mut cluster = Cluster::start(&Shape { engine: "fjall", ..THREE });
    cluster.stop(0);
    cluster.stop(1);
    let theirs = cluster.data_dir(1);
    cluster.nodes[0].settings.data_dir = theirs;
    let refused = cluster.try_restart(0).unwrap_err().to_string();
    assert!(
        refused.contains("it belongs to member 00000000000000a2, but node.id says 00000000000000a1"),
        "{refused}"
    );
    cluster.restart(1);
    cluster.stop(1);

    cluster.nodes[1].settings.node_id = gramme_core::NodeId(7);
    cluster.nodes[1].settings.data_dir = cluster.directory.path().join("fresh");
    let refused = cluster.try_restart(1).unwrap_err().to_string();
    assert!(refused.starts_with("node 0000000000000007 is not a member of the cluster in "), "{refused}");
    assert!(refused.contains("add --join HOST:PORT"), "{refused}");
    assert!(!cluster.data_dir(1).exists(), "nothing was touched");
}

#[test]
fn a_node_whose_disk_was_emptied_takes_writes_and_is_refilled_without_a_read() {
    let mut cluster = Cluster::start(&Shape { engine: "fjall", ..THREE });
    cluster.wait_met(&[0, 1, 2]);
    for i in 0..20 {
        cluster.ask(0, "PUT", &format!("/v1/kv/b/k{i}"), &[("gramme-consistency", "w=all")], b"x").is(204);
    }
    cluster.stop(0);
    std::fs::remove_dir_all(cluster.data_dir(0)).unwrap();
    cluster.restart(0);
    cluster.wait(0, |status| status["members"].as_array().unwrap().iter().all(|m| m["connected"] == true));
    cluster.put(0, "/v1/kv/b/new", b"y").is(204);
    cluster.wait(0, |status| {
        status["node"]["trust"] == "continuous" && status["node"]["standing"] == "continuous"
    });
    for i in 0..20 {
        for node in 0..3 {
            assert_eq!(
                cluster.get(node, &format!("/v1/kv/b/k{i}")).is(200).text(),
                "x",
                "k{i} at node {node}"
            );
        }
    }
    cluster.stop(0);
    cluster.restart(0);
    cluster.wait(0, |status| status["node"]["trust"] == "continuous");
}

#[test]
fn a_copy_that_runs_beside_its_original_is_turned_away() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    let mut copy = cluster.nodes[0].settings.clone();
    for address in [&mut copy.http, &mut copy.resp, &mut copy.peer] {
        *address = "127.0.0.1:0".into();
    }
    let sockets = Sockets::bind(&copy).unwrap();
    let at = sockets.addresses().http;
    let copy = Server::start(copy, sockets).unwrap();
    for _ in 0..200 {
        let status = crate::wire::http(at, "GET", "/v1/cluster/status", &[], b"").json();
        assert!(
            status["members"]
                .as_array()
                .unwrap()
                .iter()
                .all(|m| m["self"] == true || m["connected"] == false)
        );
    }
    copy.stop();
    cluster.wait_met(&[0, 1, 2]);
}
