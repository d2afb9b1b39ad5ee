//! GRAMME.* at the Redis door: siblings, contexts and conditions, as HTTP has them.

use crate::cluster::{Cluster, ONE, Shape, THREE};
use crate::wire::Redis;

/// The value of a field of a map of words without blanks, as [`Redis`] shows it.
#[track_caller]
fn field<'a>(shown: &'a str, name: &str) -> &'a str {
    let mut words = shown.split([' ', '[', ']']);
    words.find(|word| *word == name).unwrap_or_else(|| panic!("no {name} in {shown}"));
    words.next().unwrap()
}

#[test]
fn siblings_and_their_context_are_shown_and_one_put_reconciles_them() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    let nothing = redis.ask("GRAMME.GET ann BUCKET carts");
    assert_eq!(nothing, "[context (nil) etag (nil) deleted :0 siblings [] acks :1 homes :1 fallbacks :0]");
    let first = redis.ask("GRAMME.PUT ann apples BUCKET carts");
    assert_eq!(
        (field(&first, "siblings"), field(&first, "acks"), field(&first, "node")),
        (":1", ":1", "00000000000000a1")
    );
    redis.ask("gramme.put ann pears bucket carts type text/plain meta Colour green");
    let both = redis.ask("GRAMME.GET ann BUCKET carts");
    assert!(both.contains("value apples deleted :0 content_type  meta [] time 20"), "{both}");
    assert!(
        both.contains("value pears deleted :0 content_type text/plain meta [colour green] time 20"),
        "{both}"
    );
    assert_eq!(redis.ask("GRAMME.CONFLICTS 0 BUCKET carts"), "[0 [[ann :2]]]");

    let context = field(&both, "context").to_owned();
    let one = redis.ask(&format!("GRAMME.RESOLVE ann CONTEXT {context} apples,pears BUCKET carts"));
    assert_eq!(field(&one, "siblings"), ":1");
    let got = redis.ask("GRAMME.GET ann BUCKET carts");
    assert!(got.contains("[[id ") && got.contains(" value apples,pears "), "{got}");
    assert_eq!(field(&got, "etag"), field(&one, "etag"));
    assert_eq!(redis.ask("GRAMME.CONFLICTS 0 BUCKET carts"), "[0 []]");
    assert_eq!(cluster.get(0, "/v1/kv/carts/ann").is(200).text(), "apples,pears");

    // A delete covers what its context has seen, and nothing else.
    redis.ask("GRAMME.PUT ann plums BUCKET carts");
    redis.ask(&format!("GRAMME.DEL ann CONTEXT {} BUCKET carts", field(&got, "context")));
    let left = redis.ask("GRAMME.GET ann BUCKET carts");
    assert!(left.contains("value plums") && left.contains("value (nil) deleted :1"), "{left}");
    assert_eq!(field(&redis.ask("GRAMME.DEL ann BUCKET carts"), "siblings"), ":1");
    let gone = redis.ask("GRAMME.GET ann BUCKET carts");
    assert_eq!(field(&gone, "deleted"), ":1");
    assert_eq!(redis.ask("GRAMME.DEL ann BUCKET carts"), "(nil)");
    assert_eq!(redis.ask("GET ann"), "(nil)", "the plain commands know one bucket");
}

#[test]
fn the_third_protocol_has_truth_values() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    redis.ask("HELLO 3");
    let shown = redis.ask("GRAMME.GET k");
    assert!(shown.starts_with("[context (nil) etag (nil) deleted #f siblings []"), "{shown}");
}

#[test]
fn options_that_nobody_reads_are_refused_with_a_suggestion() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    let other = redis.ask("GRAMME.PUT other v");
    let of_other = format!("GRAMME.PUT k v CONTEXT {}", field(&other, "context"));
    for (command, answer) in [
        ("GRAMME.GTE k", "-ERR unknown command \"gramme.gte\": did you mean gramme.get?"),
        ("GRAMME.GET", "-ERR wrong number of arguments for 'gramme.get' command"),
        ("GRAMME.PUT k", "-ERR wrong number of arguments for 'gramme.put' command"),
        ("GRAMME.PUT k v CONTXT c", "-ERR unknown option of GRAMME.PUT \"CONTXT\": did you mean CONTEXT?"),
        (
            "GRAMME.GET k W 1",
            "-ERR unknown option of GRAMME.GET \"W\": known are BUCKET, R, PR, MIN, TIMEOUT",
        ),
        ("GRAMME.DEL k EX 5", "-ERR unknown option of GRAMME.DEL \"EX\": known are BUCKET,"),
        ("GRAMME.PUT k v CONTEXT", "-ERR the option CONTEXT of GRAMME.PUT lacks its value"),
        ("GRAMME.PUT k v META a", "-ERR the option META of GRAMME.PUT lacks its value"),
        ("GRAMME.PUT k v META a:b c", "-ERR the META name \"a:b\" is refused: use letters, digits, - and _"),
        ("GRAMME.PUT k v W 1 W 1", "-ERR the option W of GRAMME.PUT is given twice"),
        ("GRAMME.PUT k v NX XX", "-ERR GRAMME.PUT takes one of NX, XX, IFMATCH, IFNONEMATCH"),
        ("GRAMME.PUT k v EX 1 PX 1", "-ERR GRAMME.PUT takes one of EX, PX"),
        (
            "GRAMME.PUT k v W 2",
            "-ERR W: 2 answers were asked for, but this cluster keeps N=1 copies: use 1 to 1",
        ),
        ("GRAMME.GET k R most", "-ERR R is \"most\": use one, quorum, all or a number from 1"),
        ("GRAMME.PUT k v EX soon", "-ERR value is not an integer or out of range"),
        ("GRAMME.PUT k v PX -1", "-ERR invalid expire time in 'GRAMME.PUT' command"),
        ("GRAMME.PUT k v BUFFERED perhaps", "-ERR BUFFERED is \"perhaps\": use true or false"),
        ("GRAMME.PUT k v TIMEOUT 0", "-ERR TIMEOUT is \"0\": use 1 to 30000 milliseconds"),
        ("GRAMME.PUT k v IFMATCH 1", "-ERR IFMATCH is \"1\": use one ETag as a read gave it"),
        ("GRAMME.PUT k v BUCKET a/b", "-ERR the bucket name is not valid"),
        ("GRAMME.PUT k v CONTEXT nonsense", "-ERR the context is garbled"),
        (&of_other, "-ERR the context belongs to another key"),
        (
            "GRAMME.RESOLVE k v c x",
            "-ERR GRAMME.RESOLVE wants the context of the read that showed the siblings",
        ),
        ("GRAMME.CONFLICTS x", "-ERR invalid cursor: begin with 0"),
        ("GRAMME.CONFLICTS 16", "-ERR invalid cursor: begin with 0"),
        ("GRAMME.CONFLICTS 0-616", "-ERR invalid cursor: begin with 0"),
        (
            "GRAMME.CONFLICTS 0 MTACH a",
            "-ERR unknown option of GRAMME.CONFLICTS \"MTACH\": did you mean MATCH?",
        ),
        ("GRAMME.CONFLICTS 0 COUNT 0", "-ERR COUNT is \"0\": write a number of keys from 1"),
        ("GRAMME.CONFLICTS 0 COUNT", "-ERR the option COUNT of GRAMME.CONFLICTS lacks its value"),
        (
            "GRAMME.CONSISTENCY most",
            "-ERR GRAMME.CONSISTENCY is \"most\": use one, quorum, all or a number from 1",
        ),
        ("GRAMME.EXPLAIN PING", "-ERR GRAMME.EXPLAIN explains commands that read or write keys"),
        ("GRAMME.EXPLAIN GET", "-ERR wrong number of arguments for 'get' command"),
    ] {
        let shown = redis.ask(command);
        assert!(shown.starts_with(answer), "{command}\n{shown}");
    }
    assert_eq!(redis.ask("EXISTS k"), ":0", "nothing was changed");
}

#[test]
fn conditional_writes_do_what_the_table_says() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    // What is there; then whether a write goes through: NX, XX, IFMATCH current and stale, IFNONEMATCH current and
    // stale. As docs/http.md has it.
    let table: [(&str, &[&str], [bool; 6]); 4] = [
        ("never written", &[], [true, false, false, false, true, true]),
        ("deleted", &["PUT one", "DEL"], [true, false, true, false, false, true]),
        ("one value", &["PUT one"], [false, true, true, false, false, true]),
        ("several values", &["PUT one", "PUT two"], [false, true, true, false, false, true]),
    ];
    let stale = "0000000000000001";
    for (state, history, outcomes) in table {
        for (at, holds) in outcomes.into_iter().enumerate() {
            for write in ["PUT", "DEL"] {
                let key = format!("{}-{write}-{at}", state.replace(' ', "-"));
                for step in history {
                    redis.ask(&match step.split_once(' ') {
                        Some((_, value)) => format!("GRAMME.PUT {key} {value} BUCKET b"),
                        None => format!("GRAMME.DEL {key} BUCKET b"),
                    });
                }
                let before = redis.ask(&format!("GRAMME.GET {key} BUCKET b"));
                let current = Some(field(&before, "etag"))
                    .filter(|etag| *etag != "(nil)")
                    .unwrap_or("0000000000000002");
                let condition = [
                    "NX",
                    "XX",
                    &format!("IFMATCH {current}"),
                    &format!("IFMATCH {stale}"),
                    &format!("IFNONEMATCH {current}"),
                    &format!("IFNONEMATCH {stale}"),
                ][at]
                    .to_owned();
                let value = if write == "PUT" { " after" } else { "" };
                let answer = redis.ask(&format!("GRAMME.{write} {key}{value} BUCKET b {condition}"));
                let after = redis.ask(&format!("GRAMME.GET {key} BUCKET b"));
                let name = format!("{state}, {write} {condition}");
                if !holds {
                    assert_eq!(answer, "(nil)", "{name}");
                    assert_eq!(after, before, "{name}");
                    continue;
                }
                assert_eq!(field(&answer, "siblings"), ":1", "{name}");
                assert_eq!(field(&answer, "etag"), field(&after, "etag"), "{name}");
                let (value, deleted) = if write == "PUT" { ("after", ":0") } else { ("(nil)", ":1") };
                assert_eq!((field(&after, "value"), field(&after, "deleted")), (value, deleted), "{name}");
            }
        }
    }
}

#[test]
fn a_write_sent_again_under_its_name_is_one_write() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    let once = "GRAMME.PUT k v BUCKET b NX ID order-of-ann";
    let first = redis.ask(once);
    let again = redis.ask(&format!("{once} RETRY"));
    assert_eq!((field(&again, "siblings"), field(&again, "id")), (":1", field(&first, "id")));
    assert_eq!(redis.ask("GRAMME.PUT k v BUCKET b NX ID order-of-bob"), "(nil)");
    let got = redis.ask("GRAMME.GET k BUCKET b");
    assert_eq!(got.matches("value v").count(), 1, "{got}");
}

#[test]
fn a_write_says_how_long_it_lives_and_whether_it_waits_for_disks() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    assert_eq!(field(&redis.ask("GRAMME.PUT k v EX 3600 BUFFERED true"), "buffered"), ":1");
    assert!(field(&redis.ask("GRAMME.GET k"), "expires").starts_with("20"));
    assert_eq!(field(&redis.ask("GRAMME.PUT k v PX 0 BUFFERED false"), "buffered"), ":0");
    assert!(redis.ask("GRAMME.GET k").contains("expires (nil)"));
}

#[test]
fn a_bucket_that_wants_contexts_gets_them_from_this_door_too() {
    let cluster = Cluster::start(&ONE);
    cluster.ask(0, "PUT", "/v1/buckets/strict", &[], br#"{"require_context": true}"#).is(200);
    let mut redis = Redis::connect(cluster.resp(0));
    for command in ["GRAMME.PUT k v BUCKET strict", "GRAMME.DEL k BUCKET strict"] {
        let refused = redis.ask(command);
        assert!(
            refused.starts_with("-ERR this bucket wants a context with every put and delete"),
            "{refused}"
        );
    }
}

#[test]
fn conflicts_are_found_page_by_page() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    for i in 0..60 {
        redis.ask(&format!("GRAMME.PUT cart:{i} one BUCKET b"));
        if i % 3 == 0 {
            redis.ask(&format!("GRAMME.PUT cart:{i} two BUCKET b"));
        }
    }
    redis.ask("GRAMME.PUT other one BUCKET b");
    redis.ask("GRAMME.PUT other two BUCKET b");
    let (mut cursor, mut found, mut calls) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let page = redis.ask(&format!("GRAMME.CONFLICTS {cursor} BUCKET b MATCH cart:* COUNT 5"));
        found.extend(page.split(['[', ' ', ']']).filter(|word| word.starts_with("cart:")).map(str::to_owned));
        cursor = page[1..].split(' ').next().unwrap().to_owned();
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    found.sort();
    let mut expected: Vec<String> = (0..60).step_by(3).map(|i| format!("cart:{i}")).collect();
    expected.sort();
    assert_eq!(found, expected, "each once");
    assert!(calls > 5, "{calls}");
}

#[test]
fn a_connection_chooses_how_many_nodes_answer_it() {
    let mut cluster = Cluster::start(&Shape { n: 3, ..THREE });
    cluster.wait_met(&[0, 1, 2]);
    let mut redis = Redis::connect(cluster.resp(0));
    assert_eq!(redis.ask("GRAMME.CONSISTENCY"), "default");
    assert_eq!(redis.ask("GRAMME.CONSISTENCY ALL"), "all");
    assert_eq!(redis.ask("SET k v"), "+OK");
    assert_eq!(field(&redis.ask("GRAMME.PUT k w"), "homes"), ":3");
    cluster.stop(2);
    // There is no fourth node that could take its place.
    let refused = redis.ask("SET k x");
    assert!(refused.starts_with('-') && refused.contains("too few nodes answered in time"), "{refused}");
    assert_eq!(
        field(&redis.ask("GRAMME.PUT k y W one"), "buffered"),
        ":0",
        "a command's own word goes before"
    );
    assert_eq!(redis.ask("GRAMME.CONSISTENCY default"), "default");
    assert_eq!(redis.ask("SET k z"), "+OK");
    let explained = redis.ask("GRAMME.EXPLAIN GET k");
    assert!(explained.starts_with("[answer z steps [k: "), "{explained}");
    let explained = redis.ask("GRAMME.EXPLAIN GRAMME.PUT k v");
    assert!(explained.starts_with("[answer [context ") && explained.contains(" steps [k: "), "{explained}");
}
