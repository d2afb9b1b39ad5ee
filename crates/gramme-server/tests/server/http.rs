//! The HTTP door of a cluster of one.

use crate::cluster::{Cluster, ONE, Shape, THREE};

const SIBLINGS: &str = "application/vnd.gramme.siblings+json";

#[test]
fn a_value_is_put_and_read_back_with_all_that_belongs_to_it() {
    let cluster = Cluster::start(&ONE);
    let put = cluster
        .ask(
            0,
            "PUT",
            "/v1/kv/b/k",
            &[("content-type", "text/plain"), ("Gramme-Meta-Colour", "blue")],
            b"hello",
        )
        .is(204);
    assert_eq!(put.header("gramme-siblings"), "1");
    assert_eq!(put.header("gramme-acks"), "1; homes=1; fallbacks=0");
    assert_eq!(put.header("gramme-request-id").len(), 32);
    let got = cluster.get(0, "/v1/kv/b/k").is(200);
    assert_eq!(got.text(), "hello");
    assert_eq!(got.header("content-type"), "text/plain");
    assert_eq!(got.header("gramme-meta-colour"), "blue");
    assert_eq!(got.header("gramme-siblings"), "1");
    assert_eq!(got.header("gramme-node"), "00000000000000a1");
    assert!(got.find("gramme-context").is_some() && got.find("last-modified").is_some());

    let etag = got.header("etag").to_owned();
    let head = cluster.ask(0, "HEAD", "/v1/kv/b/k", &[], b"").is(200);
    assert_eq!((head.header("etag"), head.header("content-length")), (&*etag, "5"));
    cluster.ask(0, "GET", "/v1/kv/b/k", &[("if-none-match", &etag)], b"").is(304);
    cluster.put(0, "/v1/kv/b/empty", b"").is(204);
    let empty = cluster.get(0, "/v1/kv/b/empty").is(200);
    assert_eq!((empty.text(), empty.header("content-type")), (String::new(), "application/octet-stream"));
}

#[test]
fn two_puts_without_a_context_are_siblings_until_one_with_theirs_replaces_them() {
    let cluster = Cluster::start(&ONE);
    cluster.put(0, "/v1/kv/b/k", b"one").is(204);
    let stale = cluster.get(0, "/v1/kv/b/k").header("gramme-context").to_owned();
    let second = cluster.put(0, "/v1/kv/b/k", b"two").is(204);

    let both = cluster.get(0, "/v1/kv/b/k").is(409);
    assert_eq!(both.header("content-type"), SIBLINGS);
    assert_eq!(both.header("gramme-siblings"), "2");
    let form = both.json();
    let mut texts: Vec<&str> =
        form["siblings"].as_array().unwrap().iter().map(|s| s["text"].as_str().unwrap()).collect();
    texts.sort();
    assert_eq!(texts, ["one", "two"]);
    assert!(
        form["siblings"].as_array().unwrap().iter().all(|s| s["deleted"] == false && s["time"].is_string())
    );
    assert!(form["siblings"].as_array().unwrap().iter().all(|s| s["node"] == second.header("gramme-node")));

    let context = form["context"].as_str().unwrap();
    assert_eq!(context, both.header("gramme-context"));
    let merged = cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-context", context)], b"both").is(204);
    assert_eq!(merged.header("gramme-siblings"), "1");
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "both");

    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-context", &stale)], b"late").is(204);
    cluster.get(0, "/v1/kv/b/k").is(409);
}

#[test]
fn the_form_with_all_siblings_is_given_to_whoever_asks_for_it() {
    let cluster = Cluster::start(&ONE);
    let form = |key: &str| cluster.ask(0, "GET", &format!("/v1/kv/b/{key}"), &[("accept", SIBLINGS)], b"");
    let missing = form("none").is(404).json();
    assert_eq!(
        (missing["siblings"].as_array().unwrap().len(), &missing["context"]),
        (0, &serde_json::Value::Null)
    );

    cluster.put(0, "/v1/kv/b/bytes", b"\xff\x00").is(204);
    let one = form("bytes").is(200).json();
    assert_eq!(one["siblings"][0]["base64"], "/wA=");

    cluster.ask(0, "DELETE", "/v1/kv/b/bytes", &[], b"").is(204);
    let deleted = form("bytes").is(404).json();
    assert_eq!(deleted["siblings"][0]["deleted"], true);
    assert!(deleted["context"].is_string());

    cluster.put(0, "/v1/kv/b/two", b"x").is(204);
    cluster.put(0, "/v1/kv/b/two", b"y").is(204);
    assert_eq!(form("two").is(200).json()["siblings"].as_array().unwrap().len(), 2);
    let parts = cluster.ask(0, "GET", "/v1/kv/b/two", &[("accept", "multipart/mixed")], b"").is(200);
    let boundary = parts.header("content-type").split_once("boundary=").unwrap().1.to_owned();
    let text = parts.text();
    assert_eq!(text.matches(&format!("--{boundary}\r\n")).count(), 2);
    assert_eq!(text.matches("\r\ngramme-node: 00000000000000a1\r\n").count(), 2, "{text}");
    assert!(text.contains("\r\n\r\nx\r\n") && text.contains("\r\n\r\ny\r\n"), "{text}");
    assert!(text.ends_with(&format!("--{boundary}--\r\n")));
}

#[test]
fn a_delete_covers_what_it_saw_and_leaves_a_context() {
    let cluster = Cluster::start(&ONE);
    let nothing = cluster.ask(0, "DELETE", "/v1/kv/b/k", &[], b"").problem(404);
    assert_eq!(nothing, "nothing is stored under this key");
    cluster.put(0, "/v1/kv/b/k", b"x").is(204);
    cluster.put(0, "/v1/kv/b/k", b"y").is(204);
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[], b"").is(204);
    let gone = cluster.get(0, "/v1/kv/b/k").is(404);
    let context = gone.header("gramme-context").to_owned();
    assert_eq!(gone.json()["detail"], "the key was deleted, or has expired");
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[], b"").is(404);
    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-context", &context)], b"z").is(204);
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "z");

    let retried = [("idempotency-key", "delete it once")];
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &retried, b"").is(204);
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &retried, b"").is(204);
}

#[test]
fn any_bytes_are_a_key_and_what_is_none_is_refused() {
    let cluster = Cluster::start(&ONE);
    let zeros = format!("/v1/kv/b/{}", "%00".repeat(1024));
    for path in ["/v1/kv/b/a/b//c", "/v1/kv/b//", "/v1/kv/b/%ff%FE", "/v1/kv/b/sp%20ace+plus", &zeros] {
        cluster.put(0, path, path.as_bytes()).is(204);
        assert_eq!(cluster.get(0, path).is(200).text(), path);
    }
    assert_eq!(
        cluster.get(0, "/v1/kv/b/a%2Fb%2f%2Fc").is(200).text(),
        "/v1/kv/b/a/b//c",
        "an escaped slash is a slash"
    );

    let empty = cluster.put(0, "/v1/kv/b/", b"x").problem(400);
    assert_eq!(empty, "the key is empty: a key has 1 to 1024 bytes");
    let long = cluster.put(0, &format!("{zeros}%00"), b"x").problem(400);
    assert_eq!(long, "the key has 1025 bytes: at most 1024 are allowed");
    let percent = cluster.put(0, "/v1/kv/b/100%", b"x").problem(400);
    assert!(percent.contains("write a percent sign as %25"), "{percent}");
    let bucket = cluster.put(0, "/v1/kv/.b/k", b"x").problem(400);
    assert!(bucket.starts_with("the bucket name is not valid"), "{bucket}");
}

#[test]
fn a_value_of_sixteen_mebibytes_is_taken_and_one_byte_more_changes_nothing() {
    let cluster = Cluster::start(&ONE);
    let default = vec![b'd'; (1 << 20) + 1];
    let refused = cluster.put(0, "/v1/kv/b/k", &default).problem(413);
    assert_eq!(
        refused,
        "the value has 1048577 bytes, but its bucket allows 1048576: see value_bytes_max of the bucket"
    );
    cluster.put(0, "/v1/buckets/b", br#"{"value_bytes_max": 16777216}"#).is(200);

    let most = vec![b'm'; 16 << 20];
    cluster.put(0, "/v1/kv/b/k", &most).is(204);
    assert!(cluster.get(0, "/v1/kv/b/k").is(200).body == most);
    let more = vec![b'x'; (16 << 20) + 1];
    let refused = cluster.put(0, "/v1/kv/b/k", &more);
    assert_eq!(refused.json()["outcome"], "not_applied");
    let refused = refused.problem(413);
    assert_eq!(
        refused,
        "the value has 16777217 bytes, but no bucket takes more than 16777216: store it in parts"
    );
    assert!(cluster.get(0, "/v1/kv/b/k").is(200).body == most);
    let limit = cluster.put(0, "/v1/buckets/b", br#"{"value_bytes_max": 16777217}"#).problem(400);
    assert_eq!(limit, "value_bytes_max is 16777217: use 1 to 16777216");
}

#[test]
fn contexts_that_are_garbled_or_of_another_key_are_refused() {
    let cluster = Cluster::start(&ONE);
    let context = cluster.put(0, "/v1/kv/b/k", b"x").is(204).header("gramme-context").to_owned();
    let put = |key: &str, context: &str| cluster.ask(0, "PUT", key, &[("gramme-context", context)], b"y");
    for garbled in ["", "garbled", &context[1..], &format!("{context}A")] {
        let why = put("/v1/kv/b/k", garbled).problem(400);
        assert!(why.starts_with("the context "), "{garbled}: {why}");
    }
    let other = put("/v1/kv/b/other", &context).problem(400);
    assert!(other.starts_with("the context belongs to another key"), "{other}");
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "x");
    cluster.get(0, "/v1/kv/b/other").is(404);
    put("/v1/kv/b/k", &context).is(204);
    cluster.ask(0, "GET", "/v1/kv/b/k", &[("gramme-min", &context)], b"").is(200);
}

#[test]
fn words_that_nobody_reads_are_refused_with_a_suggestion() {
    let cluster = Cluster::start(&ONE);
    let with =
        |name: &str, value: &str| cluster.ask(0, "PUT", "/v1/kv/b/k", &[(name, value)], b"x").problem(400);
    assert_eq!(
        with("gramme-consistency", "w=2"),
        "w: 2 answers were asked for, but this cluster keeps N=1 copies: use 1 to 1"
    );
    assert_eq!(
        with("gramme-consistency", "w=most"),
        "w is \"most\": use one, quorum, all or a number from 1"
    );
    assert_eq!(
        with("gramme-consistency", "r=one; timout=300ms"),
        "unknown part of Gramme-Consistency \"timout\": did you mean timeout?"
    );
    assert_eq!(
        with("gramme-consistency", "timeout=1h"),
        "timeout is \"1h\": use 1ms to 30000ms, such as 300ms or 2s"
    );
    assert_eq!(with("gramme-contxt", "x"), "unknown header \"gramme-contxt\": did you mean gramme-context?");
    assert_eq!(with("gramme-ttl", "1m"), "Gramme-TTL is \"1m\": write whole seconds, or 0 for ever");
    assert_eq!(with("gramme-retry", "yes"), "gramme-retry is \"yes\": use 1 or leave it out");
    let parameter = cluster.get(0, "/v1/kv/b?prefx=a").problem(400);
    assert_eq!(parameter, "unknown parameter \"prefx\": did you mean prefix?");
    let parameter = cluster.get(0, "/v1/kv/b/k?r=1").problem(400);
    assert_eq!(parameter, "unknown parameter \"r\": this path takes none");
    let condition = cluster.ask(0, "PUT", "/v1/kv/b/k", &[("if-match", "\"1\"")], b"x").problem(400);
    assert!(condition.starts_with("if-match is \"1\": use * or one ETag"), "{condition}");
    let both = [("if-match", "*"), ("if-none-match", "*")];
    cluster.ask(0, "PUT", "/v1/kv/b/k", &both, b"x").problem(400);
    assert_eq!(with("gramme-buffered", "maybe"), "gramme-buffered is \"maybe\": use true or false");
    cluster.get(0, "/v1/kv/b/k").is(404);
    cluster.get(0, "/v2/kv/b/k").problem(404);
    let method = cluster.ask(0, "POST", "/v1/kv/b/k", &[], b"x").is(405);
    assert!(method.header("allow").contains("PUT"));
    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-consistency", "w=all; pw=1; timeout=2s")], b"x").is(204);
}

#[test]
fn a_bucket_says_what_it_wants() {
    let cluster = Cluster::start(&ONE);
    let defaults = cluster.get(0, "/v1/buckets/b").is(200).json();
    assert_eq!(
        (&defaults["mode"], &defaults["r"], &defaults["ttl"]),
        (&"siblings".into(), &"quorum".into(), &0.into())
    );
    assert_eq!(cluster.get(0, "/v1/buckets/default").json()["mode"], "lww");
    let set = cluster
        .put(0, "/v1/buckets/b", br#"{"r": 1, "w": "one", "ttl": 3600, "require_context": true}"#)
        .is(200)
        .json();
    assert_eq!(
        (&set["r"], &set["w"], &set["ttl"], &set["mode"]),
        (&1.into(), &"one".into(), &3600.into(), &"siblings".into())
    );
    assert_eq!(cluster.get(0, "/v1/buckets/b").json(), set);

    let blind = cluster.put(0, "/v1/kv/b/k", b"x").problem(428);
    assert!(blind.starts_with("this bucket wants a context"), "{blind}");
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[], b"").problem(428);

    let bad = |body: &str| cluster.put(0, "/v1/buckets/b", body.as_bytes()).problem(400);
    assert_eq!(bad(r#"{"mod": "lww"}"#), "unknown bucket option \"mod\": did you mean mode?");
    assert_eq!(bad(r#"{"mode": "last"}"#), "mode is \"last\": use \"siblings\" or \"lww\"");
    assert!(
        bad(r#"{"n": 3}"#).starts_with("n is one number for the whole cluster, here 1, because"),
        "it says why"
    );
    assert_eq!(
        bad(r#"{"r": 2}"#),
        "r: 2 answers were asked for, but this cluster keeps N=1 copies: use 1 to 1"
    );
    assert_eq!(bad(r#"{"ttl": -1}"#), "ttl is -1: use a whole number of seconds, or 0 for ever");
    assert!(bad("[]").starts_with("the body is not a JSON object"));
    assert_eq!(cluster.get(0, "/v1/buckets/b").json(), set, "nothing of it was taken");
}

#[test]
fn a_last_writer_wins_bucket_shows_one_value_whoever_wrote() {
    let cluster = Cluster::start(&ONE);
    cluster.put(0, "/v1/kv/default/k", b"one").is(204);
    cluster.put(0, "/v1/kv/default/k", b"two").is(204);
    assert_eq!(cluster.get(0, "/v1/kv/default/k").is(200).text(), "two");
    cluster.ask(0, "DELETE", "/v1/kv/default/k", &[], b"").is(204);
    cluster.get(0, "/v1/kv/default/k").is(404);
}

#[test]
fn a_write_sent_twice_under_one_name_is_one_write() {
    let cluster = Cluster::start(&ONE);
    for name in ["order 17", "00112233445566778899aabbccddeeff"] {
        let headers = [("idempotency-key", name), ("gramme-retry", "1")];
        let path = format!("/v1/kv/b/{}", name.replace(' ', "_"));
        let first = cluster.ask(0, "PUT", &path, &headers, b"x").is(204);
        let second = cluster.ask(0, "PUT", &path, &headers, b"x").is(204);
        assert_eq!(first.header("gramme-request-id"), second.header("gramme-request-id"));
        assert_eq!(cluster.get(0, &path).is(200).text(), "x");
    }
    let hex = cluster
        .ask(0, "PUT", "/v1/kv/b/k", &[("idempotency-key", "00112233445566778899aabbccddeeff")], b"")
        .is(204);
    assert_eq!(hex.header("gramme-request-id"), "00112233445566778899aabbccddeeff");
}

#[test]
fn a_value_with_a_time_to_live_says_when_it_ends() {
    let cluster = Cluster::start(&ONE);
    cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-ttl", "3600")], b"x").is(204);
    let got = cluster.get(0, "/v1/kv/b/k").is(200);
    assert!(got.header("gramme-expires").ends_with('Z'));
    cluster.put(0, "/v1/kv/b/for-ever", b"x").is(204);
    assert!(cluster.get(0, "/v1/kv/b/for-ever").find("gramme-expires").is_none());
}

#[test]
fn a_request_explains_itself_when_asked() {
    let cluster = Cluster::start(&ONE);
    let put = cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-explain", "1")], b"x").is(204);
    assert!(put.find("gramme-explain").is_some());
    let got = cluster.ask(0, "GET", "/v1/kv/b/k", &[("gramme-explain", "1")], b"").is(200);
    assert!(got.find("gramme-explain").is_some());
    assert!(cluster.get(0, "/v1/kv/b/k").find("gramme-explain").is_none());
}

#[test]
fn a_bucket_lists_each_key_once_in_an_order_that_can_be_taken_up() {
    let cluster = Cluster::start(&ONE);
    let keys: Vec<String> = (0..40).map(|i| format!("k{i:02}")).collect();
    for key in &keys {
        cluster.put(0, &format!("/v1/kv/b/{key}"), key.as_bytes()).is(204);
    }
    cluster.put(0, "/v1/kv/other/k99", b"x").is(204);
    cluster.put(0, "/v1/kv/b/gone", b"x").is(204);
    cluster.ask(0, "DELETE", "/v1/kv/b/gone", &[], b"").is(204);
    let list = |query: &str| -> Vec<serde_json::Value> {
        let answer = cluster.get(0, &format!("/v1/kv/b{query}")).is(200);
        assert_eq!(answer.header("content-type"), "application/x-ndjson");
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let names = |lines: &[serde_json::Value]| -> Vec<String> {
        lines.iter().map(|line| line["key"].as_str().unwrap().to_owned()).collect()
    };
    let all = names(&list(""));
    let mut sorted = all.clone();
    sorted.sort();
    assert_eq!(sorted, keys, "each key once, nothing deleted, nothing of another bucket");

    let mut paged = Vec::new();
    while let Some(next) = Some(names(&list(&match paged.last() {
        None => "?limit=7".to_owned(),
        Some(after) => format!("?limit=7&after={after}"),
    })))
    .filter(|page| !page.is_empty())
    {
        assert!(next.len() <= 7);
        paged.extend(next);
    }
    assert_eq!(paged, all, "pages of any size give the same list");

    let mut prefixed = names(&list("?prefix=k3"));
    prefixed.sort();
    assert_eq!(prefixed, keys[30..40]);
    let with_values = list("?prefix=k07&values=1");
    assert_eq!(with_values[0]["values"][0]["text"], "k07");
    let context = with_values[0]["context"].as_str().unwrap();
    cluster.ask(0, "PUT", "/v1/kv/b/k07", &[("gramme-context", context)], b"new").is(204);
    assert_eq!(
        cluster.get(0, "/v1/kv/b/k07").is(200).text(),
        "new",
        "a listed context replaces what was listed"
    );
    assert_eq!(
        cluster.get(0, "/v1/kv/b?limit=0").problem(400),
        "limit is \"0\": write a number of keys from 1"
    );
    assert_eq!(list("?prefix=zzz").len(), 0);
}

#[test]
fn a_node_says_who_it_is_and_how_it_is() {
    let cluster = Cluster::start(&ONE);
    cluster.put(0, "/v1/kv/b/k", b"value").is(204);
    let status = cluster.get(0, "/v1/cluster/status").is(200).json();
    assert_eq!(status["layout"]["n"], 1);
    assert_eq!(status["node"]["standing"], "continuous");
    assert_eq!(status["node"]["homes"], 16);
    assert_eq!(status["members"][0]["http"], cluster.http(0).to_string());
    assert_eq!(status["members"][0]["resp"], cluster.resp(0).to_string());
    assert_eq!(status["members"][0]["health"], "up");
    let spread = serde_json::json!({ "zones": 1, "in_one_zone": 16, "majorities": { "z": 16 } });
    assert_eq!(status["layout"]["spread"], spread);
    let machine = &status["machine"];
    assert!(machine["time_ms"].as_u64() > Some(1_700_000_000_000), "{machine}");
    assert!(machine["disk_reserve_bytes"].is_u64() && machine["open_doors"] == serde_json::json!([]));

    let ring = cluster.get(0, "/v1/ring/b/k").is(200).json();
    assert_eq!((&ring["key"], &ring["homes"][0]["name"]), (&"k".into(), &"n0".into()));
    assert_eq!(ring["homes"][0]["holds"]["siblings"][0]["bytes"], 5);

    assert_eq!(cluster.get(0, "/livez").is(200).text(), "ok\n");
    assert_eq!(cluster.get(0, "/readyz").is(200).text(), "ok\n");
    let verbose = cluster.get(0, "/readyz?verbose").is(200).text();
    assert!(verbose.contains("[+] quorum: 1 members reachable, 1 needed"), "{verbose}");
    let metrics = cluster.get(0, "/metrics").is(200).text();
    assert!(metrics.contains(r#"gramme_requests_total{door="http",op="put",outcome="ok""#), "{metrics}");
}

#[test]
fn what_clients_ask_for_is_counted_by_partition_at_the_node_they_ask() {
    let cluster = Cluster::start(&THREE);
    cluster.wait_met(&[0, 1, 2]);
    cluster.put(0, "/v1/kv/b/k", b"value").is(204);
    cluster.get(0, "/v1/kv/b/k").is(200);
    cluster.get(1, "/v1/kv/b/k").is(200);
    let partition = cluster.get(0, "/v1/ring/b/k").is(200).json()["partition"].clone();
    for (node, reads, writes) in [(0, 1, 1), (1, 1, 0)] {
        let load = cluster.get(node, "/v1/cluster/load").is(200).json();
        let [only] = load["partitions"].as_array().unwrap().as_slice() else { panic!("{load}") };
        assert_eq!(
            (&only["partition"], &only["reads"], &only["writes"]),
            (&partition, &reads.into(), &writes.into())
        );
        assert_eq!(only["homes"].as_array().unwrap().len(), 3);
        assert_eq!(load["imbalance"], 0.0, "with N=3 of three nodes all carry everything");
    }
    let idle = cluster.get(2, "/v1/cluster/load").is(200).json();
    assert_eq!(idle["partitions"], serde_json::json!([]), "what peers ask is not counted twice");
}

#[test]
fn a_token_closes_every_path_but_those_of_health() {
    let flags = vec![("security.token", "correct-horse".to_owned())];
    let cluster = Cluster::start(&Shape { flags, ..ONE });
    for path in ["/v1/kv/b/k", "/v1/kv/b", "/v1/cluster/status", "/metrics", "/v1/buckets/b"] {
        let refused = cluster.get(0, path).is(401);
        assert_eq!(refused.header("www-authenticate"), "Bearer");
        cluster.ask(0, "GET", path, &[("authorization", "Bearer wrong-horse")], b"").problem(401);
    }
    cluster.get(0, "/livez").is(200);
    cluster.get(0, "/readyz").is(200);
    let bearer = [("authorization", "Bearer correct-horse")];
    cluster.ask(0, "PUT", "/v1/kv/b/k", &bearer, b"x").is(204);
    assert_eq!(cluster.ask(0, "GET", "/v1/kv/b/k", &bearer, b"").is(200).text(), "x");
}

/// The table of docs/http.md, row by row.
#[test]
fn conditional_writes_do_what_the_table_says() {
    let cluster = Cluster::start(&ONE);
    let stale = "\"0000000000000001\"";
    // What is there; then whether a write goes through: If-None-Match *, If-Match *, If-Match current and stale,
    // If-None-Match current and stale.
    let table = [
        ("absent", [true, false, false, false, true, true]),
        ("tombstone", [true, false, true, false, false, true]),
        ("value", [false, true, true, false, false, true]),
        ("siblings", [false, true, true, false, false, true]),
    ];
    for (state, holds) in table {
        for (column, holds) in holds.into_iter().enumerate() {
            let path = format!("/v1/kv/b/{state}-{column}");
            let puts = match state {
                "absent" => 0,
                "siblings" => 2,
                _ => 1,
            };
            (0..puts).for_each(|_| _ = cluster.put(0, &path, b"before").is(204));
            if state == "tombstone" {
                cluster.ask(0, "DELETE", &path, &[], b"").is(204);
            }
            let current = cluster.get(0, &path).find("etag").unwrap_or("\"0000000000000002\"").to_owned();
            let condition = [
                ("if-none-match", "*"),
                ("if-match", "*"),
                ("if-match", &*current),
                ("if-match", stale),
                ("if-none-match", &*current),
                ("if-none-match", stale),
            ][column];
            let answer = cluster.ask(0, "PUT", &path, &[condition], b"after");
            let name = format!("{state}, {}: {}", condition.0, condition.1);
            if holds {
                let answer = answer.is(204);
                assert_eq!(answer.header("gramme-siblings"), "1", "{name}");
                let got = cluster.get(0, &path).is(200);
                assert_eq!(got.text(), "after", "{name}");
                assert_eq!(answer.header("etag"), got.header("etag"), "{name}");
            } else {
                let shown = ["etag", "gramme-context"].map(|header| answer.find(header).is_some());
                assert_eq!(shown, [state != "absent"; 2], "{name}");
                let why = answer.problem(412);
                assert!(why.starts_with("the key does not look as the condition expects"), "{name}: {why}");
            }
        }
    }
}

#[test]
fn a_conditional_write_sent_again_under_its_name_is_no_failed_condition() {
    let cluster = Cluster::start(&ONE);
    let once = [("if-none-match", "*"), ("idempotency-key", "first order of ann")];
    cluster.ask(0, "PUT", "/v1/kv/b/k", &once, b"x").is(204);
    cluster.ask(0, "PUT", "/v1/kv/b/k", &once, b"x").is(204);
    let another = [("if-none-match", "*"), ("idempotency-key", "second order of ann")];
    cluster.ask(0, "PUT", "/v1/kv/b/k", &another, b"x").problem(412);
    let etag = cluster.get(0, "/v1/kv/b/k").header("etag").to_owned();
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[("if-match", "\"0000000000000001\"")], b"").problem(412);
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[("if-match", &etag)], b"").is(204);
    cluster.get(0, "/v1/kv/b/k").is(404);
    cluster.ask(0, "DELETE", "/v1/kv/b/k", &[("if-match", "*")], b"").problem(412);
}

#[test]
fn a_buffered_write_says_that_it_is_one_and_a_bucket_may_want_all_of_its_writes_so() {
    let cluster = Cluster::start(&ONE);
    let put = cluster.ask(0, "PUT", "/v1/kv/b/k", &[("gramme-buffered", "true")], b"x").is(204);
    assert_eq!(put.header("gramme-acks"), "1; homes=1; fallbacks=0; buffered");
    assert_eq!(cluster.get(0, "/v1/kv/b/k").is(200).text(), "x");
    let set = cluster.put(0, "/v1/buckets/b", br#"{"buffered": true}"#).is(200).json();
    assert_eq!(set["buffered"], true);
    let put = cluster.put(0, "/v1/kv/b/k2", b"x").is(204);
    assert!(put.header("gramme-acks").ends_with("; buffered"));
    let durable = cluster.ask(0, "PUT", "/v1/kv/b/k3", &[("gramme-buffered", "false")], b"x").is(204);
    assert_eq!(durable.header("gramme-acks"), "1; homes=1; fallbacks=0");
    assert!(cluster.get(0, "/metrics").text().contains("gramme_buffered_window_seconds_count"));
}

#[test]
fn a_change_of_the_ring_that_cannot_be_understood_is_refused_with_what_was_meant() {
    let cluster = Cluster::start(&ONE);
    for (path, body, detail) in [
        (
            "staged",
            "{\"change\": \"leav\", \"node\": \"n1\"}",
            "unknown change \"leav\": did you mean leave?",
        ),
        (
            "staged",
            "{\"change\": \"join\", \"node\": \"n4\", \"wieght\": 2}",
            "unknown field of a join \"wieght\": did you mean weight?",
        ),
        (
            "staged",
            "join n4",
            "the body is not a JSON object, such as {\"change\": \"join\", \"node\": \"n4\"}",
        ),
        (
            "commit",
            "{\"hash\": \"8f3c\"}",
            "hash is \"8f3c\": use the 32 hexadecimal digits that /v1/cluster/plan gives",
        ),
        ("transfers", "{\"paused\": 1}", "paused is 1: use true or false"),
    ] {
        let refused = cluster.ask(0, "POST", &format!("/v1/cluster/{path}"), &[], body.as_bytes()).is(400);
        assert_eq!(refused.json()["detail"], detail, "{body}");
    }
    for path in ["layout", "history", "plan", "transfers"] {
        cluster.get(0, &format!("/v1/cluster/{path}?verbose")).is(400);
    }
}
