//! How a command ends when it does not succeed: one clear sentence on stderr, and an exit code that scripts
//! can tell apart (docs/cli.md).

use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: u8,
    /// Nothing is said if it is empty: the reader of our output went away.
    sentence: String,
}

impl Failure {
    /// It did not work.
    pub(crate) fn failed(sentence: impl Into<String>) -> Failure {
        Failure { exit: 1, sentence: sentence.into() }
    }

    /// It was asked for in a way that makes no sense.
    pub(crate) fn usage(sentence: impl Into<String>) -> Failure {
        Failure { exit: 2, sentence: sentence.into() }
    }

    /// The key has siblings, and one value was asked for.
    pub(crate) fn conflict(sentence: impl Into<String>) -> Failure {
        Failure { exit: 3, sentence: sentence.into() }
    }

    /// There is no such key.
    pub(crate) fn missing(sentence: impl Into<String>) -> Failure {
        Failure { exit: 4, sentence: sentence.into() }
    }

    /// A node's store failed while it ran.
    pub(crate) fn store(sentence: impl Into<String>) -> Failure {
        Failure { exit: gramme_server::run::STORE_FAILED_EXIT as u8, sentence: sentence.into() }
    }

    /// Says it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if !self.sentence.is_empty() {
            eprintln!("gramme: {}", self.sentence);
        }
        ExitCode::from(self.exit)
    }

    /// What it says.
    pub(crate) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// What went wrong with a file or directory, and which.
    pub(crate) fn io(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
        Failure::failed(format!("{what} {}: {error}", path.display()))
    }
}

impl From<gramme_client::Error> for Failure {
    fn from(error: gramme_client::Error) -> Failure {
        use gramme_client::Kind;
        match error.kind() {
            Kind::Unreachable => Failure::failed(format!(
                "{error}: start a cluster with `gramme dev`, or name a node with --node or GRAMME_NODE"
            )),
            Kind::Argument => Failure::usage(error.to_string()),
            Kind::Unavailable | Kind::Refused | Kind::NotUnderstood => Failure::failed(error.to_string()),
        }
    }
}

/// What went wrong while writing to stdout. A reader that has seen enough (`| head`) is no failure worth a word.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure { exit: 1, sentence: String::new() },
            _ => Failure::failed(format!("the output could not be written: {error}")),
        }
    }
}
