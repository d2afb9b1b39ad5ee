//! The dashboard: its files, what protects it, and that the endpoints give what it reads. `pages.rs` of the binary's
//! tests looks at it in a browser.

use crate::cluster::{Cluster, ONE, Shape, THREE};
use serde_json::Value as Json;

const SCRIPTS: [&str; 10] = [
    "main.js",
    "model.js",
    "ring.js",
    "latency.js",
    "panels.js",
    "session.js",
    "change.js",
    "plan.js",
    "changing.js",
    "write.js",
];

#[test]
fn the_page_and_its_files_come_with_a_policy_that_lets_nothing_else_in() {
    let cluster = Cluster::start(&ONE);
    let page = cluster.get(0, "/ui").is(200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let files = SCRIPTS.map(|name| (name, "text/javascript"));
    for (name, media) in files.into_iter().chain([("style.css", "text/css")]) {
        let file = cluster.get(0, &format!("/ui/{name}")).is(200);
        assert_eq!(file.header("content-type"), media);
        let policy = file.header("content-security-policy");
        assert_eq!(policy, page.header("content-security-policy"));
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(file.header("x-content-type-options"), "nosniff");
        // The one address that stands in the files is the name of SVG.
        let text = file.text().replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("://"), "{name} names another place");
    }
    let text = page.text();
    assert!(!text.contains("://") && !text.contains("style=") && !text.contains("onclick"), "{text}");
    assert_eq!(cluster.get(0, "/ui/").is(308).header("location"), "../ui");
    assert!(cluster.get(0, "/ui/secrets.js").problem(404).contains("it is at /ui"));
    assert!(cluster.get(0, "/ui?x=1").problem(400).contains("takes none"));
}

#[test]
fn the_page_is_open_and_what_it_asks_for_is_not() {
    let flags = vec![("security.token", "correct-horse".to_owned())];
    let cluster = Cluster::start(&Shape { flags, ..THREE });
    for path in ["/ui", "/ui/", "/ui/main.js", "/ui/style.css"] {
        assert!([200, 308].contains(&cluster.get(0, path).status), "{path}");
    }
    for path in ["/v1/cluster/overview", "/v1/cluster/ring"] {
        cluster.get(0, path).problem(401);
    }
    let bearer = [("authorization", "Bearer correct-horse")];
    crate::cluster::until(|| {
        let overview = cluster.ask(0, "GET", "/v1/cluster/overview", &bearer, b"").is(200).json();
        overview["nodes"].as_array().unwrap().iter().all(|node| node["says"]["node"]["name"] == node["name"])
    })
    .expect("the token that came with the settings opens the other nodes' doors");
}

/// What a script reads of an answer is written there as a path such as 'says.node.hints'.
fn paths_read(text: &str) -> impl Iterator<Item = &str> {
    text.split('\'').filter(|word| {
        ["says.", "described."].iter().any(|root| word.starts_with(root)) && !word.contains(' ')
    })
}

#[test]
fn every_field_that_the_page_reads_is_in_the_answer() {
    let mut cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/kv/b/k", b"one").is(204);
    cluster.put(1, "/v1/kv/b/k", b"two").is(204);
    cluster.get(0, "/v1/kv/b/k").is(409);
    let overview = cluster.get(0, "/v1/cluster/overview").is(200).json();
    let mut read = 0;
    for script in SCRIPTS {
        let text = cluster.get(0, &format!("/ui/{script}")).text();
        for path in paths_read(&text) {
            let pointer = format!("/{}", path.replace('.', "/"));
            assert!(overview["nodes"][0].pointer(&pointer).is_some(), "{script} reads {path}: {overview:#}");
            read += 1;
        }
    }
    assert!(read > 15, "the page reads {read} fields by a path");
    for operation in ["get", "put"] {
        let counts = overview["nodes"][0]["says"]["latency"][operation].as_array().unwrap();
        assert_eq!(counts.iter().map(|pair| pair[1].as_u64().unwrap()).sum::<u64>(), 1, "{counts:?}");
    }
    assert_eq!(overview["nodes"][0]["says"]["conflicts"]["shown"], 1);
    let has = |json: &Json, keys: &[&str]| {
        keys.iter().for_each(|key| assert!(json.get(key).is_some(), "{key} is missing in {json:#}"));
    };
    has(&overview["verdict"], &["level", "sentence"]);
    has(&overview["nodes"][0], &["name", "state", "colour", "share", "problems", "described", "says"]);
    let change = &overview["change"];
    has(change, &["layout", "transfers", "plan", "history", "problems"]);
    let ring = [
        "reads", "target", "head", "waiting", "changing", "awaited", "progress", "staged", "asking",
        "leaving",
    ];
    has(&change["layout"], &ring);
    has(&change["layout"]["progress"][0], &["adopted", "filled", "reads", "emptied"]);
    has(
        &change["history"][0],
        &["version", "lineage", "hash", "members", "came", "went", "moved", "back_to"],
    );
    assert_eq!((&change["plan"], &change["problems"]), (&Json::Null, &Json::Array(Vec::new())));
    has(&overview["asked"], &["cluster", "version", "node", "layout"]);
    has(&overview["asked"]["layout"], &["version", "hash", "n", "partitions"]);

    let ring = cluster.get(0, "/v1/cluster/ring").is(200).json();
    has(&ring, &["version", "n", "partitions", "members", "homes"]);
    assert_eq!(ring["hash"], overview["asked"]["layout"]["hash"]);
    has(&ring["members"][0], &["name", "zone", "weight", "slots", "fair"]);
    assert_eq!(ring["homes"].as_array().unwrap().len(), 16);
    assert!(ring["homes"].as_array().unwrap().iter().all(|homes| homes.as_array().unwrap().len() == 3));
    assert_eq!((&ring["members"][0]["slots"], &ring["members"][0]["fair"]), (&16.into(), &16.0.into()));

    cluster.stop(2);
    let mut last = Json::Null;
    let told = crate::cluster::until(|| {
        last = cluster.get(0, "/v1/cluster/overview").is(200).json();
        last["nodes"][2]["state"] == "down"
    });
    assert_eq!(told, Ok(()), "{last:#}");
    assert_eq!((&last["verdict"]["level"], &last["nodes"][2]["says"]), (&"degraded".into(), &Json::Null));
    has(&last["nodes"][2]["problems"][0], &["what", "remedy"]);
}
