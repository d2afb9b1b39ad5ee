//! Nodes that are no members, and ask to become some.

use crate::cluster::{Cluster, Shape, THREE};
use gramme_server::run::{RunError, Server, Sockets};

#[test]
fn a_node_that_is_no_member_is_let_in_by_all_and_serves_no_client_yet() {
    let mut cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/kv/b/k", b"x").is(204);
    let stranger = cluster.stranger(7, &[0]);
    let joiner = cluster.add(stranger);
    cluster.wait(joiner, |status| {
        let members = status["members"].as_array().unwrap();
        let connected = members.len() == 3 && members.iter().all(|member| member["connected"] == true);
        connected && status["node"]["trust"] == "continuous"
    });
    let status = cluster.get(joiner, "/v1/cluster/status").json();
    assert_eq!((&status["node"]["name"], &status["node"]["homes"]), (&"node-000000".into(), &0.into()));
    let refusal = cluster.get(joiner, "/v1/kv/b/k").is(503).json();
    assert_eq!(
        (&refusal["type"], &refusal["outcome"]),
        (&"urn:gramme:problem:unsuitable".into(), &"not_applied".into())
    );
    cluster.wait_met(&[0, 1, 2]);
}

#[test]
fn a_node_that_asked_to_join_once_starts_again_without_seeds() {
    let mut cluster = Cluster::start(&Shape { engine: "fjall", ..THREE });
    let stranger = cluster.stranger(7, &[0]);
    let joiner = cluster.add(stranger);
    cluster.stop(joiner);
    cluster.nodes[joiner].settings.seeds.clear();
    cluster.restart(joiner);
    cluster.wait(joiner, |status| status["members"][0]["connected"] == true);
}

#[test]
fn a_node_that_never_asked_is_refused_and_leaves_nothing_behind() {
    let cluster = Cluster::start(&Shape { engine: "fjall", ..THREE });
    for exists in [false, true] {
        let (settings, sockets) = cluster.stranger(7, &[]);
        if exists {
            std::fs::create_dir(&settings.data_dir).unwrap();
        }
        let data_dir = settings.data_dir.clone();
        let refused = Server::start(settings, sockets).err().unwrap();
        assert!(matches!(refused, RunError::NotAMember { .. }), "{refused}");
        assert_eq!(data_dir.exists(), exists);
    }
}

#[test]
fn a_node_that_listens_everywhere_must_say_where_it_is() {
    let cluster = Cluster::start(&THREE);
    let (mut settings, sockets) = cluster.stranger(7, &[0]);
    drop(sockets);
    settings.peer = "0.0.0.0:0".to_owned();
    settings.insecure = true;
    let start = |settings: &gramme_server::settings::Settings| {
        Server::start(settings.clone(), Sockets::bind(settings).unwrap())
    };
    let refused = start(&settings).err().unwrap().to_string();
    assert!(refused.contains("set listen.advertise"), "{refused}");
    settings.advertise = Some("127.0.0.1:7".to_owned());
    start(&settings).unwrap().stop();
}

#[test]
fn a_member_finds_the_others_through_its_seeds_if_the_cluster_file_knows_them_no_more() {
    let mut cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.stop(2);
    // Where the cluster file says that the others are, nobody is any more.
    let path = cluster.directory.path().join("moved.gramme");
    let mut file =
        gramme_server::cluster_file::ClusterFile::read(&cluster.nodes[2].settings.cluster_file).unwrap();
    let members = file.layout.members().iter().cloned().map(|mut member| {
        member.address = format!("127.0.0.1:{}", member.id.0 - 0xa0);
        member
    });
    file.layout = gramme_core::Layout::first(members.collect(), 3, 16).unwrap();
    file.write(&path).unwrap();
    let seed = cluster.nodes[0].settings.peer.clone();
    let settings = &mut cluster.nodes[2].settings;
    (settings.cluster_file, settings.seeds, settings.shards) = (path, vec![seed], 1);
    // Nor do the others know where this one is.
    settings.peer = "127.0.0.1:0".to_owned();
    cluster.restart(2);
    cluster.wait(2, |status| status["members"][0]["connected"] == true);
}
