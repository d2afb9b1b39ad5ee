//! Three servers that talk to each other.

use crate::cluster::{Cluster, Shape, THREE, until};
use crate::wire::Redis;

#[test]
fn what_is_put_at_one_node_is_read_at_every_other() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    for node in 0..3 {
        let path = format!("/v1/kv/b/k{node}");
        let put = cluster.ask(node, "PUT", &path, &[("gramme-consistency", "w=all")], b"value").is(204);
        assert_eq!(put.header("gramme-acks"), "3; homes=3; fallbacks=0");
        for reader in 0..3 {
            let got = cluster.ask(reader, "GET", &path, &[("gramme-consistency", "r=all")], b"").is(200);
            assert_eq!((got.text(), got.header("gramme-acks")), ("value".into(), "3; homes=3; fallbacks=0"));
        }
    }
    cluster.get(1, "/v1/kv/b/none").is(404);
}

#[test]
fn nodes_with_different_numbers_of_shards_understand_each_other() {
    let cluster = Cluster::start(&Shape { shards: &[1, 2, 3], ..THREE });
    cluster.wait_met(&[0, 1, 2]);
    let mut redis: Vec<Redis> = (0..3).map(|node| Redis::connect(cluster.resp(node))).collect();
    for i in 0..60 {
        assert_eq!(redis[i % 3].ask(&format!("SET k{i} {i}")), "+OK");
        assert_eq!(redis[(i + 1) % 3].ask(&format!("GET k{i}")), i.to_string());
    }
}

#[test]
fn a_node_less_loses_nothing_and_the_node_comes_back() {
    let mut cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/kv/b/before", b"1").is(204);
    cluster.stop(2);
    cluster.wait(0, |status| status["members"][2]["connected"] == false);
    cluster.wait(1, |status| status["members"][2]["connected"] == false);
    cluster.put(1, "/v1/kv/b/during", b"2").is(204);
    for node in [0, 1] {
        assert_eq!(cluster.get(node, "/v1/kv/b/before").is(200).text(), "1");
        assert_eq!(cluster.get(node, "/v1/kv/b/during").is(200).text(), "2");
        assert_eq!(cluster.get(node, "/readyz").is(200).text(), "ok\n");
    }
    cluster.restart(2);
    cluster.wait_met(&[0, 1]);
    cluster.wait(2, |status| {
        status["members"][0]["connected"] == true && status["members"][1]["connected"] == true
    });
    assert_eq!(cluster.get(2, "/v1/kv/b/during").is(200).text(), "2");
}

#[test]
fn with_two_of_three_gone_a_request_says_what_became_of_it() {
    let mut cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/kv/b/k", b"x").is(204);
    cluster.stop(1);
    cluster.stop(2);
    cluster.wait(0, |status| {
        status["members"][1]["connected"] == false && status["members"][2]["connected"] == false
    });
    let read = cluster.get(0, "/v1/kv/b/k").is(503);
    assert_eq!(read.header("retry-after"), "1");
    let problem = read.json();
    assert_eq!(
        (&problem["retryable"], &problem["needed"], &problem["acks"]),
        (&true.into(), &2.into(), &1.into())
    );
    let written = cluster.put(0, "/v1/kv/b/k", b"y").is(503).json();
    assert_eq!(
        written["outcome"], "not_applied",
        "two copies are out of reach, so none was begun: {written}"
    );
    assert_eq!(cluster.get(0, "/readyz").is(503).text(), "not ready\n");
    let mut redis = Redis::connect(cluster.resp(0));
    let read = redis.ask("GET k");
    assert!(read.starts_with("-TRYAGAIN ") && read.ends_with("(outcome=not_applied)"), "{read}");
    let written = redis.ask("SET k v");
    assert!(written.starts_with("-TRYAGAIN ") && written.ends_with("(outcome=not_applied)"), "{written}");
    let alone = cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-consistency", "w=one")], b"y");
    assert_eq!(alone.status, 204, "one copy is within reach");
    let one = cluster.ask(0, "GET", "/v1/kv/b/k", &[("gramme-consistency", "r=one")], b"");
    assert!(one.status == 200 || one.status == 409, "one answer is at hand");
}

#[test]
fn bucket_settings_reach_every_node() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/buckets/b", br#"{"mode": "lww"}"#).is(200);
    for node in 0..3 {
        until(|| cluster.get(node, "/v1/buckets/b").json()["mode"] == "lww").unwrap();
    }
}

#[test]
fn a_list_of_three_nodes_has_every_key_once() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    for i in 0..50 {
        cluster.put(i % 3, &format!("/v1/kv/b/k{i:02}"), b"x").is(204);
    }
    let mut keys: Vec<String> =
        cluster.get(1, "/v1/kv/b").is(200).text().lines().map(str::to_owned).collect();
    keys.sort();
    assert_eq!(keys.len(), 50);
}

#[test]
fn a_node_of_another_cluster_stays_outside() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    let mut stranger = Cluster::prepare(&THREE, |_| ());
    // The stranger's cluster file names the first cluster's nodes as its peers.
    let path = stranger.directory.path().join("cluster.gramme");
    let theirs =
        gramme_server::cluster_file::ClusterFile::read(&cluster.directory.path().join("cluster.gramme"))
            .unwrap();
    let other = gramme_server::cluster_file::ClusterFile::create(theirs.layout).unwrap();
    std::fs::remove_file(&path).unwrap();
    other.write(&path).unwrap();
    stranger.sockets.truncate(1);
    let stranger = stranger.run();
    for _ in 0..50 {
        let status = stranger.get(0, "/v1/cluster/status").json();
        assert!(
            status["members"]
                .as_array()
                .unwrap()
                .iter()
                .all(|m| m["self"] == true || m["connected"] == false)
        );
    }
    cluster.wait_met(&[0, 1, 2]);
}
