use super::*;

const ID: &str = "[node]\nid = \"00000000000000a1\"\n";

fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Settings, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    std::fs::write(&path, text).unwrap();
    let env: Vec<_> = env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let flags: Vec<_> = flags.iter().map(|(k, v)| (*k, v.to_string())).collect();
    let shown = directory.path().display().to_string();
    Settings::load(Some(&path), env, &flags).map_err(|e| e.to_string().replace(&format!("{shown}/"), ""))
}

#[test]
fn a_file_with_nothing_but_an_id_is_enough() {
    let settings = load(ID, &[], &[]).unwrap();
    assert_eq!(settings.node_id, NodeId(0xa1));
    assert_eq!(
        (&*settings.http, &*settings.resp, &*settings.peer),
        ("127.0.0.1:7400", "127.0.0.1:7401", "127.0.0.1:7402")
    );
    assert_eq!(settings.engine, EngineKind::Fjall);
    assert_eq!((settings.audit_seconds, settings.scrub_hours), (300, 168));
    assert!(settings.shards >= 1, "0 shards stands for the number of cores");
    assert!(settings.cluster_file.ends_with("cluster.gramme") && settings.cluster_file.is_absolute());
    assert_eq!(settings.check().unwrap(), Vec::<String>::new());
}

#[test]
fn the_environment_wins_over_the_file_and_flags_win_over_both() {
    let file =
        format!("{ID}[listen]\nhttp = \"127.0.0.1:1\"\nresp = \"127.0.0.1:1\"\npeer = \"127.0.0.1:1\"\n");
    let env = [("GRAMME_LISTEN__RESP", "127.0.0.1:2"), ("GRAMME_LISTEN__PEER", "127.0.0.1:2"), ("HOME", "/")];
    let settings = load(&file, &env, &[("listen.peer", "127.0.0.1:3")]).unwrap();
    assert_eq!(
        (&*settings.http, &*settings.resp, &*settings.peer),
        ("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    );
}

#[test]
fn every_slip_is_one_sentence_that_says_where_and_what_to_do() {
    type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        (
            "[listen]\nhtpp = \"x\"",
            &[],
            "node.toml line 4: unknown key listen.htpp: did you mean listen.http?",
        ),
        (
            "[repair]\naudit_second = 60",
            &[],
            "node.toml line 4: unknown key repair.audit_second: did you mean repair.audit_seconds?",
        ),
        (
            "[repair]\naudit_seconds = 1",
            &[],
            "node.toml line 4: repair.audit_seconds is 1: use a whole number from 10 to 86400",
        ),
        (
            "",
            &[("GRAMME_REPAIR__SCRUB_HOURS", "0")],
            "environment variable GRAMME_REPAIR__SCRUB_HOURS: repair.scrub_hours is 0: use a whole number from 1 to 8784",
        ),
        ("[lisen]\n", &[], "node.toml line 3: unknown section [lisen]: did you mean listen?"),
        (
            "[storage]\nshards = 2",
            &[],
            "node.toml line 4: unknown key storage.shards: did you mean server.shards?",
        ),
        ("[zebra]\n", &[], "node.toml line 3: unknown section [zebra]: docs/settings.md lists all keys"),
        (
            "[server]\nshards = \"2\"",
            &[],
            "node.toml line 4: server.shards must be a whole number, not a string",
        ),
        (
            "[server]\nshards = 1000",
            &[],
            "node.toml line 4: server.shards is 1000: use a whole number from 0 to 128",
        ),
        (
            "[server]\nshards = -1",
            &[],
            "node.toml line 4: server.shards is -1: use a whole number from 0 to 128",
        ),
        (
            "[storage]\nengine = \"rocks\"",
            &[],
            "node.toml line 4: storage.engine is \"rocks\": use fjall or memory",
        ),
        (
            "[listen]\nhttp = \"7400\"",
            &[],
            "node.toml line 4: listen.http is \"7400\": write host:port, such as \"127.0.0.1:7400\"",
        ),
        (
            "[security]\ntoken = \"short\"",
            &[],
            "node.toml line 4: security.token is too short to be a secret: use at least 8 characters",
        ),
        (
            "[tls]\ncert = \"a\"",
            &[],
            "[tls] is incomplete: TLS between peers needs all of tls.cert, tls.key and tls.ca",
        ),
        (
            "[cluster]\nseed = \"n1:7402\"",
            &[],
            "node.toml line 4: unknown key cluster.seed: did you mean cluster.seeds?",
        ),
        (
            "[cluster]\nseeds = [\"n1:7402\", \"n2\"]",
            &[],
            "node.toml line 4: cluster.seeds is \"n2\": write host:port as other machines reach it, such as \"10.0.0.4:7402\"",
        ),
        (
            "[cluster]\nseeds = [1]",
            &[],
            "node.toml line 4: cluster.seeds must be a list of strings, not a list",
        ),
        (
            "[listen]\nadvertise = \"0.0.0.0:7402\"",
            &[],
            "node.toml line 4: listen.advertise is \"0.0.0.0:7402\": write host:port as other machines reach it, such as \"10.0.0.4:7402\"",
        ),
        (
            "",
            &[("GRAMME_NODE__ZONE", "")],
            "environment variable GRAMME_NODE__ZONE: node.zone is \"\": write 1 to 240 bytes of text, such as \"rack-a\"",
        ),
        ("shards = 2", &[], "node.toml line 3: unknown key node.shards: did you mean server.shards?"),
        ("[log", &[], "node.toml line 3: this is not TOML: unclosed table, expected `]`"),
        (
            "",
            &[("GRAMME_LISTEN__HTP", "x")],
            "environment variable GRAMME_LISTEN__HTP: unknown key listen.htp: did you mean listen.http?",
        ),
        (
            "",
            &[("GRAMME_SERVER__SHARDS", "many")],
            "environment variable GRAMME_SERVER__SHARDS: server.shards is many: use a whole number from 0 to 128",
        ),
    ];
    for (text, env, expected) in cases {
        let problem = load(&format!("{ID}{text}"), env, &[]).unwrap_err();
        assert_eq!(problem.lines().next().unwrap(), *expected, "for {text:?}");
    }
}

#[test]
fn all_slips_are_told_at_once() {
    let problem = load("[server]\nshards = -1\n[log]\nformat = \"xml\"\n", &[], &[]).unwrap_err();
    assert_eq!(problem.lines().count(), 3, "two bad values and a missing node.id:\n{problem}");
}

#[test]
fn a_missing_or_bad_id_is_said_once() {
    let missing = load("", &[], &[]).unwrap_err();
    assert!(missing.starts_with("node.id is missing"), "{missing}");
    let bad = load("[node]\nid = \"7\"\n", &[], &[]).unwrap_err();
    assert_eq!(bad, "node.toml line 2: node.id is not valid: a NodeId is written as 16 hexadecimal digits");
}

#[test]
fn seeds_are_a_list_or_a_text_with_commas() {
    let seeds = |file: &str, flags: &[(&str, &str)]| load(&format!("{ID}{file}"), &[], flags).unwrap().seeds;
    assert_eq!(seeds("", &[]), Vec::<String>::new());
    let both = ["n1:7402", "10.0.0.2:7402"];
    assert_eq!(seeds("[cluster]\nseeds = [\"n1:7402\", \"10.0.0.2:7402\"]", &[]), both);
    assert_eq!(seeds("[cluster]\nseeds = \"n1:7402, 10.0.0.2:7402\"", &[]), both);
    assert_eq!(seeds("[cluster]\nseeds = [\"n1:7402\"]", &[("cluster.seeds", "n3:7402")]), ["n3:7402"]);
}

#[test]
fn a_node_that_asks_to_join_is_given_an_id_once_and_only_if_all_else_is_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node.toml");
    let join = |text: Option<&str>| {
        text.iter().for_each(|text| std::fs::write(&path, text).unwrap());
        Settings::load_to_join(&path, [], &[("cluster.seeds", "n1:7402".to_owned())])
    };
    let wrong = "[node]\nname = \"late\"\n[listen]\nhtpp = \"x\"\n";
    let refused = join(Some(wrong)).unwrap_err();
    assert_eq!(refused.0.len(), 2, "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), wrong, "nothing was written");

    let (settings, made) = join(Some("[node]\nname = \"late\"\n")).unwrap();
    assert_eq!((made, &*settings.node_name), (Some(settings.node_id), "late"));
    let (again, made) = join(None).unwrap();
    assert_eq!((again, made), (settings, None), "it has a name for ever");
}

#[test]
fn a_door_that_strangers_reach_needs_a_lock_or_a_word_of_the_operator() {
    let open = format!("{ID}[listen]\nhttp = \"0.0.0.0:7400\"\npeer = \"10.0.0.1:7402\"\n");
    let refused = load(&open, &[], &[]).unwrap().check().unwrap_err();
    assert_eq!(refused.0.len(), 2, "{refused}");
    assert!(refused.0[0].starts_with(
        "listen.http = \"0.0.0.0:7400\" can be reached from other machines without security.token"
    ));
    assert!(refused.0[1].contains("without [tls]"));

    let insecure = load(&open, &[("GRAMME_SECURITY__INSECURE", "true")], &[]).unwrap();
    assert_eq!(insecure.check().unwrap().len(), 2, "allowed, with a warning for each");

    let with_token = load(&open, &[("GRAMME_SECURITY__TOKEN", "long-enough")], &[]).unwrap();
    assert_eq!(with_token.check().unwrap_err().0.len(), 1, "the token guards HTTP, only TLS guards peers");
}

#[test]
fn a_token_file_is_read_beside_the_settings_and_never_shown() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), "correct-horse\n").unwrap();
    let path = directory.path().join("node.toml");
    std::fs::write(&path, format!("{ID}[security]\ntoken_file = \"secret\"\n")).unwrap();
    let settings = Settings::load(Some(&path), [], &[]).unwrap();
    let token = settings.token.as_ref().unwrap();
    assert!(token.admits(b"correct-horse") && !token.admits(b"correct-hors") && !token.admits(b""));
    assert!(!format!("{settings:?}").contains("horse"));
}

#[test]
fn the_docs_page_has_every_key() {
    let page = include_str!("../../../../docs/settings.md");
    for key in KEYS {
        assert!(page.contains(&format!("`{}`", key.name)), "docs/settings.md does not explain {}", key.name);
    }
}
