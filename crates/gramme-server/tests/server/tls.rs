//! Mutual TLS between peers.

use crate::cluster::{Cluster, Shape, THREE};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::Path;

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A node's files, signed by `signer`, trusting `trusted`.
fn write_files(
    directory: &Path,
    signer: &CertifiedIssuer<'static, KeyPair>,
    trusted: &CertifiedIssuer<'static, KeyPair>,
) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let cert = params.signed_by(&key, signer).unwrap();
    std::fs::write(directory.join("node.pem"), cert.pem()).unwrap();
    std::fs::write(directory.join("node.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("ca.pem"), trusted.pem()).unwrap();
}

fn shape() -> Shape {
    let flags = vec![
        ("tls.cert", "DIR/node.pem".to_owned()),
        ("tls.key", "DIR/node.key".to_owned()),
        ("tls.ca", "DIR/ca.pem".to_owned()),
    ];
    Shape { flags, ..THREE }
}

#[test]
fn peers_with_certificates_of_one_authority_talk() {
    let ours = authority();
    let cluster = Cluster::prepare(&shape(), |directory| write_files(directory, &ours, &ours)).run();
    cluster.wait_met(&[0, 1, 2]);
    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-consistency", "w=all")], b"secret").is(204);
    assert_eq!(cluster.get(2, "/v1/kv/b/k").is(200).text(), "secret");
}

/// Connected peers of each shard of a node.
fn connected(cluster: &Cluster, node: usize) -> Vec<String> {
    let text = cluster.get(node, "/metrics").is(200).text();
    let of_shard = |shard: usize| {
        let line = format!("gramme_peers_connected{{shard=\"{shard}\"}} ");
        text.lines().find_map(|text| text.strip_prefix(&line)).unwrap().to_owned()
    };
    (0..3).map(of_shard).collect()
}

#[test]
fn whoever_calls_is_heard_by_the_shard_that_it_means() {
    let ours = authority();
    let shape = Shape { shards: &[3], ..shape() };
    let mut cluster = Cluster::prepare(&shape, |directory| write_files(directory, &ours, &ours)).run();
    cluster.wait_met(&[0, 1, 2]);
    let (mut settings, sockets) = cluster.stranger(7, &[0]);
    settings.shards = 1;
    cluster.add((settings, sockets));
    for node in 0..3 {
        crate::cluster::until(|| connected(&cluster, node) == ["3", "2", "2"]).unwrap();
    }
}

#[test]
fn peers_whose_certificates_another_authority_signed_do_not() {
    let (ours, theirs) = (authority(), authority());
    let cluster = Cluster::prepare(&shape(), |directory| write_files(directory, &theirs, &ours)).run();
    for _ in 0..50 {
        let status = cluster.get(0, "/v1/cluster/status").json();
        assert!(
            status["members"]
                .as_array()
                .unwrap()
                .iter()
                .all(|m| m["self"] == true || m["connected"] == false)
        );
    }
}

#[test]
fn files_that_are_no_certificates_are_refused_by_name() {
    let ours = authority();
    let mut prepared = Cluster::prepare(&shape(), |directory| {
        write_files(directory, &ours, &ours);
        std::fs::write(directory.join("ca.pem"), "nothing").unwrap();
    });
    let (settings, sockets) = prepared.sockets.remove(0);
    let refused = gramme_server::run::Server::start(settings, sockets).err().unwrap().to_string();
    assert!(refused.starts_with("tls.ca ") && refused.ends_with("holds no certificates"), "{refused}");
}
