//! What the client does when nodes break, are silent, refuse or contradict each other.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop where it stands")]

mod script;

use gramme_client::{Client, ContextToken, Got, Kind, Listing, Options, Read, Write};
use gramme_core::Outcome;
use script::{Node, Reply, nobody};

fn stored() -> Reply {
    Reply::Say(
        204,
        vec![("gramme-context", "ctx-1".into()), ("gramme-acks", "3; homes=3".into())],
        String::new(),
    )
}

fn problem(status: u16, outcome: &str, retryable: bool) -> Reply {
    let body = format!(r#"{{"detail":"why it failed","outcome":"{outcome}","retryable":{retryable}}}"#);
    Reply::Say(status, vec![("content-type", "application/problem+json".into())], body)
}

fn client(nodes: &[&str]) -> Client {
    Client::without_asking(nodes, Options::default()).unwrap()
}

#[tokio::test]
async fn a_put_whose_node_hangs_up_goes_once_to_another_with_the_same_request_id_and_says_it_is_a_retry() {
    let (first, second) = (Node::that([Reply::HangUp]), Node::that([stored()]));
    let written = client(&[&first.url, &second.url]).put("b", b"k", "v").await.unwrap();
    assert!(written.via.retried);
    assert_eq!(written.via.node, second.url);
    assert_eq!(written.context.as_str(), "ctx-1");
    let (one, two) = (first.seen(), second.seen());
    assert_eq!((one.len(), two.len()), (1, 1));
    let id = one[0].header("idempotency-key").unwrap();
    assert_eq!(id.len(), 32);
    assert_eq!(two[0].header("idempotency-key"), Some(id));
    assert_eq!((one[0].header("gramme-retry"), two[0].header("gramme-retry")), (None, Some("1")));
    assert_eq!(two[0].body, b"v");
}

#[tokio::test]
async fn a_slow_node_is_joined_by_another_and_its_late_answer_still_counts() {
    let (release, held) = Reply::held(stored());
    let (slow, frozen) = (Node::that([held]), Node::that([Reply::Silence]));
    let (client, urls) = (client(&[&slow.url, &frozen.url]), slow.url.clone());
    let call = tokio::spawn(async move { client.put("b", b"k", "v").await });
    while frozen.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(call.await.unwrap().unwrap().via.node, urls);
    let [one, two] = [&slow, &frozen].map(|node| node.seen()[0].clone());
    assert_eq!(one.header("idempotency-key"), two.header("idempotency-key"));
    assert_eq!(two.header("gramme-retry"), Some("1"), "the slow one may have applied it");
}

#[tokio::test]
async fn a_silent_node_costs_one_attempt_and_is_then_asked_last() {
    let (silent, second) = (Node::that([Reply::Silence]), Node::that([stored()]));
    let client = client(&[&silent.url, &second.url]);
    assert!(client.put("b", b"k", "v").await.unwrap().via.retried);
    assert!(!client.put("b", b"k", "v").await.unwrap().via.retried, "the silent node is avoided");
    assert_eq!(silent.seen().len(), 1);
}

#[tokio::test]
async fn a_node_that_cannot_serve_costs_one_retry_and_is_then_asked_last() {
    let (cut_off, second) = (Node::that([problem(503, "not_applied", true)]), Node::that([stored()]));
    let client = client(&[&cut_off.url, &second.url]);
    assert!(client.put("b", b"k", "v").await.unwrap().via.retried);
    assert!(!client.put("b", b"k", "v").await.unwrap().via.retried, "it is avoided");
    assert_eq!(cut_off.seen().len(), 1);
}

#[tokio::test]
async fn nodes_that_serve_nobody_cost_no_attempt() {
    let turned_away = || {
        let body = r#"{"type":"urn:gramme:problem:unsuitable","detail":"no member","outcome":"not_applied","retryable":true}"#;
        Reply::Say(503, vec![], body.into())
    };
    let [left, leaving, joining] = [(); 3].map(|()| Node::that([turned_away()]));
    let (cut_off, serving) = (Node::that([problem(503, "not_applied", true)]), Node::that([stored()]));
    let order = [&left, &leaving, &cut_off, &joining, &serving].map(|node| node.url.as_str());
    assert_eq!(client(&order).put("b", b"k", "v").await.unwrap().via.node, serving.url);

    let alone = Node::that([turned_away()]);
    let error = client(&[&alone.url]).put("b", b"k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::NotApplied));
}

#[tokio::test]
async fn transfers_are_paused_and_resumed_at_nodes_that_ask_to_join_too() {
    let say = |body: String| Reply::Say(200, vec![], body);
    let asking = Node::that([say(r#"{"paused":false}"#.into())]);
    let ring = format!(r#"{{"asking":[{{"http":"{}"}}]}}"#, asking.url.trim_start_matches("http://"));
    let member = Node::that([say(ring), say(r#"{"paused":false}"#.into())]);
    let told = client(&[&member.url]).pause_transfers(false).await.unwrap();
    assert_eq!(told.into_iter().filter(|(_, answer)| answer.is_ok()).count(), 2);
    assert_eq!(asking.seen()[0].body, br#"{"paused":false}"#);
}

#[tokio::test]
async fn nodes_that_are_not_there_cost_no_attempt_and_the_put_is_no_retry() {
    let ([gone, also_gone], broken) = (nobody(), Node::that([Reply::HangUp]));
    let last = Node::that([stored()]);
    let written = client(&[&gone, &also_gone, &broken.url, &last.url]).put("b", b"k", "v").await.unwrap();
    assert_eq!(written.via.node, last.url);
    assert_eq!(broken.seen()[0].header("gramme-retry"), None);
}

#[tokio::test]
async fn after_two_attempts_it_has_failed_and_may_exist_though_a_third_node_stands_by() {
    let broken = [Node::that([Reply::HangUp]), Node::that([Reply::HangUp])];
    let third = Node::that([stored()]);
    let error = client(&[&broken[0].url, &broken[1].url, &third.url]).put("b", b"k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unavailable, Outcome::MaybeApplied));
    assert!(error.to_string().contains("may exist"), "{error}");
    assert!(third.seen().is_empty());
}

#[tokio::test]
async fn a_refused_second_attempt_does_not_undo_the_doubt_of_the_first() {
    for second in [problem(503, "not_applied", true), problem(413, "not_applied", false)] {
        let (first, second) = (Node::that([Reply::HangUp]), Node::that([second]));
        let error = client(&[&first.url, &second.url]).put("b", b"k", "v").await.unwrap_err();
        assert_eq!(error.outcome(), Outcome::MaybeApplied);
    }
}

#[tokio::test]
async fn a_busy_node_that_applied_nothing_sends_the_put_elsewhere_as_a_first_attempt() {
    let (busy, second) = (Node::that([problem(503, "not_applied", true)]), Node::that([stored()]));
    client(&[&busy.url, &second.url]).put("b", b"k", "v").await.unwrap();
    assert_eq!(second.seen()[0].header("gramme-retry"), None);

    let (unsure, third) = (Node::that([problem(503, "maybe_applied", true)]), Node::that([stored()]));
    client(&[&unsure.url, &third.url]).put("b", b"k", "v").await.unwrap();
    assert_eq!(third.seen()[0].header("gramme-retry"), Some("1"));
}

#[tokio::test]
async fn what_every_node_would_refuse_is_asked_once() {
    let (first, second) = (Node::that([problem(412, "not_applied", false)]), Node::that([stored()]));
    let error = client(&[&first.url, &second.url]).put("b", b"k", "v").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.status(), error.to_string().as_str()),
        (Kind::Refused, Some(412), "why it failed")
    );
    assert_eq!(error.outcome(), Outcome::NotApplied);
    assert!(second.seen().is_empty());
}

#[tokio::test]
async fn nobody_at_all_is_said_with_every_address_and_nothing_was_written() {
    let [a, b] = nobody();
    let error = client(&[&a, &b]).put("b", b"k", "v").await.unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (Kind::Unreachable, Outcome::NotApplied));
    let text = error.to_string();
    assert!(text.contains(&a) && text.contains(&b) && text.contains("connection refused"), "{text}");
}

#[tokio::test]
async fn connecting_learns_the_other_members_from_whichever_node_answers() {
    let other = Node::that([stored()]);
    let members = format!(r#"{{"members":[{{"http":"{}"}}]}}"#, other.url.trim_start_matches("http://"));
    let first = Node::that([Reply::Say(200, vec![], members), Reply::HangUp]);
    let [gone, _] = nobody();
    let client = Client::connect(&[&gone, &first.url], Options::default()).await.unwrap();
    assert_eq!(client.nodes(), [gone, first.url, other.url.clone()]);
    assert_eq!(client.put("b", b"k", "v").await.unwrap().via.node, other.url);
}

#[tokio::test]
async fn reads_tell_one_value_siblings_a_deletion_and_nothing_apart() {
    let context = || vec![("gramme-context", "ctx-9".to_string())];
    let one = vec![
        ("gramme-context", "ctx-9".to_string()),
        ("content-type", "text/plain".to_string()),
        ("gramme-meta-colour", "red".to_string()),
    ];
    let siblings = r#"{"context":"ctx-9","siblings":[
        {"id":"a.1","content_type":"text/plain","text":"pen","meta":{},"time":"2026-01-02T03:04:05Z","node":"00000000000000a1","deleted":false},
        {"id":"b.1","content_type":"image/png","base64":"/wA=","meta":{"a":"b"},"time":"","deleted":false},
        {"id":"c.1","content_type":"","meta":{},"time":"","deleted":true}]}"#;
    let node = Node::that([
        Reply::Say(200, one, "pen".into()),
        Reply::Say(409, context(), siblings.into()),
        Reply::Say(404, context(), "{}".into()),
        Reply::Say(404, vec![], "{}".into()),
    ]);
    let client = client(&[&node.url]);
    let Got::One(value) = client.get("b", b"k").await.unwrap() else { panic!("one value") };
    assert_eq!((&value.bytes[..], value.content_type.as_str()), (&b"pen"[..], "text/plain"));
    assert_eq!(value.meta["colour"], "red");
    let Got::Siblings(several) = client.get("b", b"k").await.unwrap() else { panic!("siblings") };
    assert_eq!(several.context, ContextToken::new("ctx-9"));
    let bytes: Vec<Option<&[u8]>> = several.siblings.iter().map(|s| s.bytes.as_deref()).collect();
    assert_eq!(bytes, [Some(&b"pen"[..]), Some(&b"\xff\x00"[..]), None]);
    assert_eq!(several.siblings[0].node, "00000000000000a1");
    assert!(
        matches!(client.get("b", b"k").await.unwrap(), Got::Deleted(context) if context.as_str() == "ctx-9")
    );
    assert!(matches!(client.get("b", b"k").await.unwrap(), Got::Missing));
}

#[tokio::test]
async fn what_a_reader_and_a_writer_ask_for_is_in_the_headers() {
    let node = Node::that([Reply::Say(404, vec![], String::new()), stored()]);
    let client =
        Client::without_asking(&[&node.url], Options { token: Some("s3cret".into()), spread: false })
            .unwrap();
    let min = Some(ContextToken::new("seen"));
    let read = Read { consistency: Some("r=all".into()), min, explain: true };
    client.get_with("b", b"a/b", &read).await.unwrap();
    let write = Write {
        context: Some(ContextToken::new("seen")),
        content_type: Some("text/plain".into()),
        ttl_seconds: Some(60),
        ..Write::default()
    };
    client.put_with("b", b"k", "v", &write).await.unwrap();
    let [get, put] = node.seen().try_into().unwrap();
    assert_eq!((get.method.as_str(), get.path.as_str()), ("GET", "/v1/kv/b/a%2Fb"));
    assert_eq!((get.header("gramme-consistency"), get.header("gramme-min")), (Some("r=all"), Some("seen")));
    assert_eq!(
        (get.header("gramme-explain"), get.header("authorization")),
        (Some("1"), Some("Bearer s3cret"))
    );
    assert_eq!((put.header("gramme-context"), put.header("gramme-ttl")), (Some("seen"), Some("60")));
    assert_eq!(put.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn a_large_value_asks_for_a_longer_deadline() {
    let node = Node::that([stored()]);
    client(&[&node.url]).put("b", b"k", vec![0; 8 << 20]).await.unwrap();
    assert_eq!(node.seen()[0].header("gramme-consistency"), Some("timeout=3048ms"));
}

#[tokio::test]
async fn an_update_resolves_siblings_and_writes_with_their_context() {
    let siblings = r#"{"context":"both","siblings":[
        {"id":"a.1","content_type":"text/plain","text":"pen","deleted":false},
        {"id":"b.1","content_type":"text/plain","text":"ink","deleted":false}]}"#;
    let node =
        Node::that([Reply::Say(409, vec![("gramme-context", "both".into())], siblings.into()), stored()]);
    client(&[&node.url])
        .update("carts", b"u42", |seen| {
            let texts: Vec<&[u8]> = seen.iter().filter_map(|sibling| sibling.bytes.as_deref()).collect();
            texts.join(&b' ').into()
        })
        .await
        .unwrap();
    let put = &node.seen()[1];
    assert_eq!((put.header("gramme-context"), &put.body[..]), (Some("both"), &b"pen ink"[..]));
    assert_eq!(put.header("content-type"), Some("text/plain"));
}

fn line(key: &str) -> String {
    format!(
        r#"{{"key":"{key}","siblings":1,"context":"c","values":[{{"id":"a.1","content_type":"text/plain","text":"v"}}]}}"#
    ) + "\n"
}

#[tokio::test]
async fn a_list_that_ends_with_a_problem_goes_on_elsewhere_if_that_may_help() {
    let unable = |retryable| {
        Node::that([Reply::Say(
            200,
            vec![],
            line("one")
                + &format!(r#"{{"problem":{{"detail":"no quorum","retryable":{retryable}}}}}"#)
                + "\n",
        )])
    };
    let other =
        Node::that([Reply::Say(200, vec![], r#"{"key_base64":"/wA=","siblings":2}"#.to_string() + "\n")]);
    let passing = unable(true);
    let mut list = client(&[&passing.url, &other.url]).list("b", Listing::default()).unwrap();
    assert_eq!(list.next().await.unwrap().unwrap().values[0].bytes.as_deref(), Some(&b"v"[..]));
    let second = list.next().await.unwrap().unwrap();
    assert_eq!((&second.key[..], second.siblings), (&b"\xff\x00"[..], 2));

    let lasting = unable(false);
    let mut list = client(&[&lasting.url, &other.url]).list("b", Listing::default()).unwrap();
    assert!(list.next().await.unwrap().is_some());
    assert_eq!(list.next().await.unwrap_err().to_string(), "no quorum");
}

#[tokio::test]
async fn deleting_what_is_not_there_is_no_error() {
    let node = Node::that([Reply::Say(404, vec![], "{}".into()), stored()]);
    let client = client(&[&node.url]);
    assert!(client.delete("b", b"k", &Write::default()).await.unwrap().is_none());
    assert!(client.delete("b", b"k", &Write::default()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_list_whose_node_dies_goes_on_after_its_last_key_through_another() {
    let dying = Node::that([Reply::Half(line("one") + &line("two") + r#"{"key":"thr"#)]);
    let other = Node::that([Reply::Say(200, vec![], line("three"))]);
    let client = client(&[&dying.url, &other.url]);
    let mut list = client.list("b", Listing { values: true, ..Listing::default() }).unwrap();
    let mut keys = Vec::new();
    while let Some(entry) = list.next().await.unwrap() {
        keys.push(String::from_utf8(entry.key.to_vec()).unwrap());
    }
    assert_eq!(keys, ["one", "two", "three"]);
    assert_eq!(list.resumed(), 1);
    assert!(other.seen()[0].path.ends_with("&after=two"), "{}", other.seen()[0].path);
}

#[tokio::test]
async fn a_list_that_nobody_can_finish_ends_with_an_error_and_not_early() {
    let dying = Node::that([Reply::Half(line("one")), Reply::HangUp]);
    let mut list = client(&[&dying.url]).list("b", Listing::default()).unwrap();
    assert!(list.next().await.unwrap().is_some());
    let error = list.next().await.unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("could not be finished"), "{error}");
}

#[tokio::test]
async fn a_stranger_that_speaks_http_is_recognised_as_no_node() {
    let page = Reply::Say(200, vec![("content-type", "text/html".into())], "<html>".into());
    let node = Node::that([page]);
    let error = client(&[&node.url]).status().await.unwrap_err();
    assert_eq!(error.kind(), Kind::NotUnderstood);
    assert!(error.to_string().contains("is it a Gramme node"), "{error}");
}
