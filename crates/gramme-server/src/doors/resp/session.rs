//! What a connection remembers, and the commands about connections and servers. Texts are those of Redis 7.2.

mod server;

use super::answer::Answer;
use super::command::Command;
use super::errand::Levels;
use super::{Counter, conflicts, table, word};
use crate::doors::{Service, words};
use bytes::Bytes;
use gramme_wire::resp::Version;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};

/// See the module.
pub(super) struct Session {
    id: i64,
    version: Version,
    admitted: bool,
    name: Bytes,
    levels: Levels,
    over: bool,
}

/// What is to be done with a command.
pub(super) enum Dispatched {
    /// It is about keys.
    Data(Command),
    /// It is about the connection or the server.
    Session,
    /// It is answered already.
    Refused(Answer),
}

impl Session {
    /// A client that has said nothing yet.
    pub(super) fn new(service: &Service) -> Session {
        static NEXT: AtomicI64 = AtomicI64::new(1);
        Session {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            version: Version::Resp2,
            admitted: service.token.is_none(),
            name: Bytes::new(),
            levels: Levels::default(),
            over: false,
        }
    }

    /// The protocol that the client chose.
    pub(super) fn version(&self) -> Version {
        self.version
    }

    /// Whether it may do more than authenticate.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted
    }

    /// Whether the connection is to be closed.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Closes the connection once its answers are written.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// Which kind of command it is, checked as Redis checks: known, number of arguments, authenticated.
    pub(super) fn dispatch(&self, counter: &Counter, args: &[Bytes]) -> Dispatched {
        let entry = match table_entry(args) {
            Ok(entry) => entry,
            Err(answer) => return Dispatched::Refused(answer),
        };
        if !self.admitted && !entry.needs_no_auth() {
            return Dispatched::Refused(Answer::Error("NOAUTH Authentication required.".into()));
        }
        let (entry, args, explain) = if entry.name == EXPLAIN {
            match table_entry(&args[1..]) {
                Ok(explained) => (explained, &args[1..], true),
                Err(answer) => return Dispatched::Refused(answer),
            }
        } else {
            (entry, args, false)
        };
        match Command::parse(entry.name, args, &counter.service, self.levels) {
            Some(Ok(command)) if explain => Dispatched::Data(command.explained()),
            Some(Ok(command)) => Dispatched::Data(command),
            Some(Err(answer)) => Dispatched::Refused(answer),
            None if explain => Dispatched::Refused(Answer::err(
                "GRAMME.EXPLAIN explains commands that read or write keys, such as GET, SET and GRAMME.PUT",
            )),
            None => Dispatched::Session,
        }
    }

    /// Runs a command about the connection or the server.
    pub(super) async fn execute(&mut self, counter: &Counter, args: &[Bytes]) -> Answer {
        match &*word(&args[0]) {
            "ping" => self.ping(args),
            "echo" => Answer::Value(args[1].clone()),
            "quit" => {
                self.over = true;
                Answer::Ok
            }
            "select" => select(&args[1]),
            "auth" => self.auth(&counter.service, args),
            "hello" => self.hello(&counter.service, args),
            "client" => self.client(args),
            "command" => command(args),
            "config" => server::config(args),
            "gramme.conflicts" => conflicts::run(&counter.service, self.levels, args).await,
            "gramme.consistency" => self.consistency(&counter.service, args),
            "info" => server::info(&counter.service, args).await,
            _ => server::dbsize(&counter.service).await,
        }
    }

    fn ping(&self, args: &[Bytes]) -> Answer {
        match args {
            [_] => Answer::Simple("PONG"),
            [_, text] => Answer::Value(text.clone()),
            _ => wrong_number("ping"),
        }
    }

    fn auth(&mut self, service: &Service, args: &[Bytes]) -> Answer {
        let (user, password) = match args {
            [_, password] => (None, password),
            [_, user, password] => (Some(user), password),
            _ => return Answer::err("syntax error"),
        };
        let Some(token) = &service.token else {
            return match user {
                Some(user) if user == "default" => Answer::Ok,
                Some(_) => wrong_password(),
                None => Answer::err(
                    "AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                ),
            };
        };
        if user.is_none_or(|user| user == "default") && token.admits(password) {
            self.admitted = true;
            Answer::Ok
        } else {
            wrong_password()
        }
    }

    fn hello(&mut self, service: &Service, args: &[Bytes]) -> Answer {
        let mut version = self.version;
        if let Some(wanted) = args.get(1) {
            version = match std::str::from_utf8(wanted).ok().and_then(|text| text.parse::<i64>().ok()) {
                Some(2) => Version::Resp2,
                Some(3) => Version::Resp3,
                Some(_) => return Answer::Error("NOPROTO unsupported protocol version".into()),
                None => return Answer::err("Protocol version is not an integer or out of range"),
            };
        }
        let mut name = None;
        let mut rest = args.get(2..).unwrap_or_default();
        while let [option, more @ ..] = rest {
            rest = match (&*word(option), more) {
                ("auth", [user, password, more @ ..]) => {
                    let admitted =
                        self.auth(service, &[Bytes::from_static(b"auth"), user.clone(), password.clone()]);
                    if admitted != Answer::Ok {
                        return admitted;
                    }
                    more
                }
                ("setname", [wanted, more @ ..]) => {
                    if !is_name(wanted) {
                        return bad_name();
                    }
                    name = Some(Bytes::copy_from_slice(wanted));
                    more
                }
                _ => {
                    return Answer::err(format_args!(
                        "Syntax error in HELLO option '{}'",
                        String::from_utf8_lossy(option)
                    ));
                }
            };
        }
        if !self.admitted {
            return Answer::Error("NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time".into());
        }
        self.version = version;
        if let Some(name) = name {
            self.name = name;
        }
        let pair = |name: &str, value: Answer| (Answer::Text(name.into()), value);
        let text = |text: &str| Answer::Text(text.into());
        Answer::Map(vec![
            pair("server", text("gramme")),
            pair("version", text(server::REDIS_VERSION)),
            pair("proto", Answer::Integer(version.number())),
            pair("id", Answer::Integer(self.id)),
            pair("mode", text("standalone")),
            pair("role", text("master")),
            pair("modules", Answer::Array(Vec::new())),
        ])
    }

    /// How many nodes answer the commands of this connection that do not say it themselves.
    fn consistency(&mut self, service: &Service, args: &[Bytes]) -> Answer {
        match args {
            [_] => {}
            [_, level] if word(level) == "default" => self.levels = Levels::default(),
            [_, level] => match words::level("GRAMME.CONSISTENCY", &word(level), &service.layout()) {
                Ok(level) => self.levels = Levels { r: Some(level), w: Some(level) },
                Err(sentence) => return Answer::err(sentence),
            },
            _ => return wrong_number("gramme.consistency"),
        }
        Answer::Text(self.levels.r.map_or("default".to_owned(), |level| level.to_string()))
    }

    fn client(&mut self, args: &[Bytes]) -> Answer {
        match (&*word(&args[1]), &args[2..]) {
            ("id", []) => Answer::Integer(self.id),
            ("getname", []) if self.name.is_empty() => Answer::Null,
            ("getname", []) => Answer::Value(self.name.clone()),
            ("setname", [name]) if is_name(name) => {
                self.name = Bytes::copy_from_slice(name);
                Answer::Ok
            }
            ("setname", [_]) => bad_name(),
            ("setinfo", [attribute, value]) => match &*word(attribute) {
                known @ ("lib-name" | "lib-ver") if !is_name(value) => Answer::err(format_args!(
                    "{known} cannot contain spaces, newlines or special characters."
                )),
                "lib-name" | "lib-ver" => Answer::Ok,
                _ => {
                    Answer::err(format_args!("Unrecognized option '{}'", String::from_utf8_lossy(attribute)))
                }
            },
            (known @ ("id" | "getname" | "setname" | "setinfo"), _) => {
                wrong_number(&format!("client|{known}"))
            }
            _ => unknown_subcommand("CLIENT", &args[1]),
        }
    }
}

fn command(args: &[Bytes]) -> Answer {
    let Some(subcommand) = args.get(1) else {
        return Answer::Array(table::TABLE.iter().map(table::Entry::described).collect());
    };
    let named = &args[2..];
    match &*word(subcommand) {
        "count" if named.is_empty() => Answer::Integer(table::TABLE.len() as i64),
        "list" if named.is_empty() => Answer::texts(table::TABLE.iter().map(|entry| entry.name)),
        "info" if named.is_empty() => {
            Answer::Array(table::TABLE.iter().map(table::Entry::described).collect())
        }
        "info" => {
            let one = |name| table::find(&word(name)).map_or(Answer::Null, table::Entry::described);
            Answer::Array(named.iter().map(one).collect())
        }
        "docs" if named.is_empty() => {
            Answer::Map(table::TABLE.iter().map(table::Entry::documented).collect())
        }
        "docs" => {
            let known = named.iter().filter_map(|name| table::find(&word(name)));
            Answer::Map(known.map(table::Entry::documented).collect())
        }
        known @ ("count" | "list") => wrong_number(&format!("command|{known}")),
        _ => unknown_subcommand("COMMAND", subcommand),
    }
}

fn select(index: &Bytes) -> Answer {
    match std::str::from_utf8(index).ok().and_then(|text| text.parse::<i64>().ok()) {
        Some(0) => Answer::Ok,
        Some(_) => Answer::err("DB index is out of range"),
        None => Answer::err("value is not an integer or out of range"),
    }
}

/// Which command it is, if it is there and has as many arguments as it takes.
fn table_entry(args: &[Bytes]) -> Result<&'static table::Entry, Answer> {
    let name = word(&args[0]);
    match table::find(&name) {
        Some(entry) if entry.takes(args.len()) => Ok(entry),
        Some(_) => Err(wrong_number(&name)),
        None if name.starts_with(OURS) => {
            let known: Vec<&str> =
                table::TABLE.iter().map(|entry| entry.name).filter(|name| name.starts_with(OURS)).collect();
            Err(Answer::err(words::unknown("command", &name, &known)))
        }
        None => Err(unknown_command(args)),
    }
}

fn unknown_command(args: &[Bytes]) -> Answer {
    let shown =
        |bytes: &[u8], max: usize| String::from_utf8_lossy(&bytes[..bytes.len().min(max)]).into_owned();
    let mut beginning = String::new();
    for arg in &args[1..] {
        if beginning.len() >= SHOWN_BYTES_MAX {
            break;
        }
        let room = SHOWN_BYTES_MAX - beginning.len();
        // A String takes whatever is written to it.
        let _ = write!(beginning, "'{}' ", shown(arg, room));
    }
    let name = shown(&args[0], SHOWN_BYTES_MAX);
    Answer::err(format_args!("unknown command '{name}', with args beginning with: {beginning}"))
}

fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Answer {
    let shown = String::from_utf8_lossy(&subcommand[..subcommand.len().min(SHOWN_BYTES_MAX)]);
    Answer::err(format_args!("unknown subcommand '{shown}'. Try {command} HELP."))
}

fn wrong_number(name: &str) -> Answer {
    Answer::err(format_args!("wrong number of arguments for '{name}' command"))
}

fn wrong_password() -> Answer {
    Answer::Error("WRONGPASS invalid username-password pair or user is disabled.".into())
}

fn is_name(name: &[u8]) -> bool {
    name.iter().all(u8::is_ascii_graphic)
}

fn bad_name() -> Answer {
    Answer::err("Client names cannot contain spaces, newlines or special characters.")
}

/// What the commands begin with that Redis does not have.
const OURS: &str = "gramme.";
const EXPLAIN: &str = "gramme.explain";
/// As much of a stranger's words as an error repeats.
const SHOWN_BYTES_MAX: usize = 128;
