//! The commands there are, as COMMAND tells clients.

use super::answer::Answer;

/// One command.
pub(super) struct Entry {
    pub(super) name: &'static str,
    /// How many arguments it takes, its name among them; negative: at least so many.
    pub(super) arity: i64,
    flags: &'static [&'static str],
    /// Where its keys stand: first, last (negative: from the end), step; all 0 if it has none.
    keys: (i64, i64, i64),
    summary: &'static str,
    group: &'static str,
    since: &'static str,
}

/// All of them.
pub(super) const TABLE: &[Entry] = &[
    entry(
        "auth",
        -2,
        &["noscript", "loading", "stale", "fast", "no_auth"],
        (0, 0, 0),
        "Authenticates the connection.",
        "connection",
        "1.0.0",
    ),
    entry("client", -2, &[], (0, 0, 0), "A container for client connection commands.", "connection", "2.4.0"),
    entry(
        "command",
        -1,
        &["loading", "stale"],
        (0, 0, 0),
        "Returns detailed information about all commands.",
        "server",
        "2.8.13",
    ),
    entry("config", -2, &[], (0, 0, 0), "A container for server configuration commands.", "server", "2.0.0"),
    entry(
        "dbsize",
        1,
        &["readonly"],
        (0, 0, 0),
        "Returns the number of keys in the database, counted or estimated.",
        "server",
        "1.0.0",
    ),
    entry("del", -2, &["write"], (1, -1, 1), "Deletes one or more keys.", "generic", "1.0.0"),
    entry(
        "echo",
        2,
        &["loading", "stale", "fast"],
        (0, 0, 0),
        "Returns the given string.",
        "connection",
        "1.0.0",
    ),
    entry(
        "exists",
        -2,
        &["readonly", "fast"],
        (1, -1, 1),
        "Determines whether one or more keys exist.",
        "generic",
        "1.0.0",
    ),
    entry(
        "get",
        2,
        &["readonly", "fast"],
        (1, 1, 1),
        "Returns the string value of a key.",
        "string",
        "1.0.0",
    ),
    entry(
        "gramme.conflicts",
        -2,
        &["readonly"],
        (0, 0, 0),
        "Goes through the keys of a bucket that have several values.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.consistency",
        -1,
        &["fast"],
        (0, 0, 0),
        "Chooses how many nodes answer this connection: one, quorum, all, a number, or default.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.del",
        -2,
        &["write"],
        (1, 1, 1),
        "Deletes what a context covers, or what is there, and returns the new context.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.explain",
        -2,
        &["write"],
        (0, 0, 0),
        "Runs a command over keys, and returns its answer with the steps it took.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.get",
        -2,
        &["readonly", "fast"],
        (1, 1, 1),
        "Returns all siblings of a key with their context.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.put",
        -3,
        &["write", "denyoom"],
        (1, 1, 1),
        "Writes a value in the place of what a context covers, and returns the new context.",
        "gramme",
        OWN,
    ),
    entry(
        "gramme.resolve",
        -5,
        &["write", "denyoom"],
        (1, 1, 1),
        "Writes the one value that reconciles the siblings of a context.",
        "gramme",
        OWN,
    ),
    entry(
        "hello",
        -1,
        &["noscript", "loading", "stale", "fast", "no_auth"],
        (0, 0, 0),
        "Handshakes with the server.",
        "connection",
        "6.0.0",
    ),
    entry(
        "info",
        -1,
        &["loading", "stale"],
        (0, 0, 0),
        "Returns information and statistics about the server.",
        "server",
        "1.0.0",
    ),
    entry(
        "mget",
        -2,
        &["readonly", "fast"],
        (1, -1, 1),
        "Returns the string values of one or more keys.",
        "string",
        "1.0.0",
    ),
    entry(
        "mset",
        -3,
        &["write", "denyoom"],
        (1, -1, 2),
        "Sets the string values of one or more keys, each for itself.",
        "string",
        "1.0.1",
    ),
    entry(
        "ping",
        -1,
        &["fast"],
        (0, 0, 0),
        "Returns the server's liveliness response.",
        "connection",
        "1.0.0",
    ),
    entry(
        "quit",
        -1,
        &["noscript", "loading", "stale", "fast", "no_auth"],
        (0, 0, 0),
        "Closes the connection.",
        "connection",
        "1.0.0",
    ),
    entry(
        "select",
        2,
        &["loading", "stale", "fast"],
        (0, 0, 0),
        "Changes the selected database.",
        "connection",
        "1.0.0",
    ),
    entry(
        "set",
        -3,
        &["write", "denyoom"],
        (1, 1, 1),
        "Sets the string value of a key, ignoring its type.",
        "string",
        "1.0.0",
    ),
];

/// Since when there are the commands that Redis does not have.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// The command of this name, in lower case.
pub(super) fn find(name: &str) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.name == name)
}

impl Entry {
    /// Whether it may be called with so many arguments.
    pub(super) fn takes(&self, args: usize) -> bool {
        let args = args as i64;
        if self.arity < 0 { args >= -self.arity } else { args == self.arity }
    }

    /// Whether a client may call it before it has authenticated.
    pub(super) fn needs_no_auth(&self) -> bool {
        self.flags.contains(&"no_auth")
    }

    /// As COMMAND and COMMAND INFO answer.
    pub(super) fn described(&self) -> Answer {
        let (first, last, step) = self.keys;
        let flags = self.flags.iter().map(|&flag| Answer::Simple(flag)).collect();
        Answer::Array(vec![
            Answer::Text(self.name.into()),
            Answer::Integer(self.arity),
            Answer::Set(flags),
            Answer::Integer(first),
            Answer::Integer(last),
            Answer::Integer(step),
            Answer::Set(Vec::new()),
            Answer::Array(Vec::new()),
            Answer::Array(Vec::new()),
            Answer::Array(Vec::new()),
        ])
    }

    /// As COMMAND DOCS answers.
    pub(super) fn documented(&self) -> (Answer, Answer) {
        let pair = |name: &str, value: &str| (Answer::Text(name.into()), Answer::Text(value.into()));
        let docs = vec![pair("summary", self.summary), pair("since", self.since), pair("group", self.group)];
        (Answer::Text(self.name.into()), Answer::Map(docs))
    }
}

const fn entry(
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    keys: (i64, i64, i64),
    summary: &'static str,
    group: &'static str,
    since: &'static str,
) -> Entry {
    Entry { name, arity, flags, keys, summary, group, since }
}
