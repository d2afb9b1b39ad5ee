//! Transcripts at the Redis door.

use crate::cluster::{Cluster, ONE, Shape};
use crate::wire::Redis;

/// `(command, answer)` in turn on one connection.
fn transcript(redis: &mut Redis, lines: &[(&str, &str)]) {
    for (command, answer) in lines {
        assert_eq!(redis.ask(command), *answer, "{command}");
    }
}

#[test]
fn strings_behave_as_they_do_in_redis() {
    let cluster = Cluster::start(&ONE);
    transcript(
        &mut Redis::connect(cluster.resp(0)),
        &[
            ("PING", "+PONG"),
            ("ping hello", "hello"),
            ("ECHO hello", "hello"),
            ("GET k", "(nil)"),
            ("SET k v", "+OK"),
            ("GET k", "v"),
            ("set k w", "+OK"),
            ("GET k", "w"),
            ("EXISTS k k none", ":2"),
            ("MSET a 1 b 2 a 3", "+OK"),
            ("MGET a b none k", "[3 2 (nil) w]"),
            ("DBSIZE", ":3"),
            ("DEL a a b none", ":2"),
            ("DEL a", ":0"),
            ("GET a", "(nil)"),
            ("DBSIZE", ":1"),
            ("SET k v EX 100", "+OK"),
            ("SET k v px 100000", "+OK"),
            ("GET k", "v"),
        ],
    );
}

#[test]
fn errors_are_redis_errors_to_the_letter() {
    let cluster = Cluster::start(&ONE);
    transcript(
        &mut Redis::connect(cluster.resp(0)),
        &[
            ("FOO", "-ERR unknown command 'FOO', with args beginning with:"),
            ("foo a bc", "-ERR unknown command 'foo', with args beginning with: 'a' 'bc'"),
            ("GET", "-ERR wrong number of arguments for 'get' command"),
            ("SET k", "-ERR wrong number of arguments for 'set' command"),
            ("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command"),
            ("PING a b", "-ERR wrong number of arguments for 'ping' command"),
            ("SET k v EX", "-ERR syntax error"),
            ("SET k v EX 1 PX 1", "-ERR syntax error"),
            ("SET k v BANANA", "-ERR syntax error"),
            ("SET k v EX x", "-ERR value is not an integer or out of range"),
            ("SET k v EX 0", "-ERR invalid expire time in 'set' command"),
            ("SET k v PX -1", "-ERR invalid expire time in 'set' command"),
            ("SELECT 0", "+OK"),
            ("SELECT 1", "-ERR DB index is out of range"),
            ("SELECT x", "-ERR value is not an integer or out of range"),
            (
                "AUTH x",
                "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ),
            ("HELLO 4", "-NOPROTO unsupported protocol version"),
            ("HELLO x", "-ERR Protocol version is not an integer or out of range"),
            ("HELLO 2 BANANA", "-ERR Syntax error in HELLO option 'BANANA'"),
            ("CLIENT BANANA", "-ERR unknown subcommand 'BANANA'. Try CLIENT HELP."),
            ("CLIENT ID x", "-ERR wrong number of arguments for 'client|id' command"),
            (
                "CLIENT MAINT_NOTIFICATIONS ON",
                "-ERR unknown subcommand 'MAINT_NOTIFICATIONS'. Try CLIENT HELP.",
            ),
            ("CONFIG GET", "-ERR wrong number of arguments for 'config|get' command"),
            ("CLUSTER SLOTS", "-ERR unknown command 'CLUSTER', with args beginning with: 'SLOTS'"),
            ("GET k", "(nil)"),
        ],
    );
    let mut redis = Redis::connect(cluster.resp(0));
    assert!(redis.ask("SET k v KEEPTTL").starts_with("-ERR the option KEEPTTL of SET is not supported"));
    assert_eq!(redis.ask("SET k v NX XX"), "-ERR syntax error");
    assert_eq!(redis.ask("SET cond v XX"), "(nil)");
    assert_eq!(redis.ask("SET cond v NX"), "+OK");
    assert_eq!(redis.ask("SET cond w NX EX 10"), "(nil)");
    assert_eq!(redis.ask("SET cond w XX"), "+OK");
    assert_eq!(redis.ask_raw(&[b"SET", b"", b"v"]), "-ERR the key is empty: a key has 1 to 1024 bytes");
    let large = vec![b'x'; (1 << 20) + 1];
    assert_eq!(
        redis.ask_raw(&[b"SET", b"k", &large]),
        "-ERR the value has 1048577 bytes, but its bucket allows 1048576: see value_bytes_max of the bucket (outcome=not_applied)"
    );
    assert_eq!(redis.ask("GET k"), "(nil)", "nothing of it was kept, and the connection lives");
}

#[test]
fn clients_shake_hands_in_either_protocol() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    let hello = redis.ask("HELLO 3 SETNAME me");
    assert!(hello.starts_with("[server gramme version 7.2.5 proto :3 id :"), "{hello}");
    assert!(hello.ends_with("mode standalone role master modules []]"), "{hello}");
    transcript(
        &mut redis,
        &[
            ("GET none", "(nil)"),
            ("CLIENT GETNAME", "me"),
            ("CLIENT SETNAME you", "+OK"),
            ("CLIENT SETINFO LIB-NAME test", "+OK"),
            ("CLIENT SETINFO LIB-VER 1", "+OK"),
            ("CLIENT SETINFO LIB-X 1", "-ERR Unrecognized option 'LIB-X'"),
            ("CLIENT GETNAME", "you"),
            ("CONFIG GET save", "[save ]"),
            ("CONFIG GET appendonly", "[appendonly yes]"),
            ("CONFIG GET databases", "[databases 1]"),
            ("CONFIG GET nothing", "[]"),
            ("COMMAND COUNT", ":24"),
            ("COMMAND INFO get none", "[[get :2 [+readonly +fast] :1 :1 :1 [] [] [] []] (nil)]"),
        ],
    );
    let docs = redis.ask("COMMAND DOCS get");
    assert_eq!(docs, "[get [summary Returns the string value of a key. since 1.0.0 group string]]");
    let docs = redis.ask("COMMAND DOCS gramme.get");
    let about = "[gramme.get [summary Returns all siblings of a key with their context. since";
    assert!(docs.starts_with(about) && docs.ends_with("group gramme]]"), "{docs}");
    let info = redis.ask("INFO");
    for line in [
        "redis_version:7.2.5",
        "server_name:gramme",
        "loading:0",
        "role:master",
        "cluster_enabled:0",
        "maxmemory_policy:noeviction",
    ] {
        assert!(info.contains(line), "INFO lacks {line}:\n{info}");
    }
    let server = redis.ask("INFO server");
    assert!(server.contains("redis_version") && !server.contains("role:master"), "{server}");
    assert!(redis.ask("HELLO 2").contains("proto :2"));
    assert_eq!(redis.ask("QUIT"), "+OK");
    assert_eq!(redis.hear(), "(closed)");
}

#[test]
fn a_pipeline_is_answered_in_order_and_sees_its_own_writes() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    let mut commands = String::new();
    for i in 0..200 {
        commands.push_str(&format!("SET k{} {i}\r\nGET k{}\r\nPING {i}\r\n", i % 7, i % 7));
    }
    redis.send(commands.as_bytes());
    for i in 0..200 {
        assert_eq!((redis.hear(), redis.hear(), redis.hear()), ("+OK".into(), i.to_string(), i.to_string()));
    }
    redis.send(b"GET k1\r\n*1\r\n$4\r\nPING\r\n*1\r\n!\r\n");
    assert_eq!((&*redis.hear(), &*redis.hear()), ("197", "+PONG"));
    assert_eq!(redis.hear(), "-ERR Protocol error: expected '$', got '!'");
    assert_eq!(redis.hear(), "(closed)");
}

#[test]
fn a_token_is_the_password() {
    let flags = vec![("security.token", "correct-horse".to_owned())];
    let cluster = Cluster::start(&Shape { flags, ..ONE });
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    let mut redis = Redis::connect(cluster.resp(0));
    transcript(
        &mut redis,
        &[
            ("GET k", "-NOAUTH Authentication required."),
            ("PING", "-NOAUTH Authentication required."),
            ("AUTH wrong", wrong),
            ("AUTH other correct-horse", wrong),
            ("HELLO 3 AUTH default wrong", wrong),
            ("GET k", "-NOAUTH Authentication required."),
            ("AUTH correct-horse", "+OK"),
            ("GET k", "(nil)"),
        ],
    );
    let mut redis = Redis::connect(cluster.resp(0));
    assert!(
        redis
            .ask("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called with the client already authenticated")
    );
    assert!(redis.ask("HELLO 3 AUTH default correct-horse").contains("proto :3"));
    assert_eq!(redis.ask("SET k v"), "+OK");
}

#[test]
fn what_one_door_writes_the_other_reads() {
    let cluster = Cluster::start(&ONE);
    let mut redis = Redis::connect(cluster.resp(0));
    assert_eq!(redis.ask("SET k from-redis"), "+OK");
    assert_eq!(cluster.get(0, "/v1/kv/default/k").is(200).text(), "from-redis");
    cluster.put(0, "/v1/kv/default/k", b"from-http").is(204);
    assert_eq!(redis.ask("GET k"), "from-http");
}
