//! A command over keys, its arguments checked, with all that its connection had to say.

use super::Counter;
use super::answer::Answer;
use super::errand::{Errand, Levels};
use super::{strings, versions};
use crate::doors::Service;
use crate::metrics::Op;
use bytes::Bytes;
use gramme_core::Key;

/// See the module.
pub(super) struct Command {
    what: What,
    levels: Levels,
    explain: bool,
}

enum What {
    Strings(strings::Command),
    Versions(Box<versions::Command>),
}

impl Command {
    /// `None` if it is no command over keys; the error is what the client is told. `name` is that of its entry.
    pub(super) fn parse(
        name: &str,
        args: &[Bytes],
        service: &Service,
        levels: Levels,
    ) -> Option<Result<Command, Answer>> {
        let what = match strings::Command::parse(name, args) {
            Some(command) => command.map(What::Strings),
            None => versions::Command::parse(name, args, service)?.map(|it| What::Versions(Box::new(it))),
        };
        Some(what.map(|what| Command { what, levels, explain: false }))
    }

    /// The same, answered together with its steps.
    pub(super) fn explained(self) -> Command {
        Command { explain: true, ..self }
    }

    /// In the order of the arguments.
    pub(super) fn keys(&self) -> &[Key] {
        match &self.what {
            What::Strings(command) => command.keys(),
            What::Versions(command) => std::slice::from_ref(command.key()),
        }
    }

    /// Whether it changes its keys.
    pub(super) fn writes(&self) -> bool {
        self.op() != Op::Get
    }

    /// How it counts.
    pub(super) fn op(&self) -> Op {
        match &self.what {
            What::Strings(command) => command.op(),
            What::Versions(command) => command.op(),
        }
    }

    /// Runs it.
    pub(super) async fn run(&self, counter: &Counter) -> Answer {
        let errand = Errand::new(counter, self.levels, self.explain);
        let done = match &self.what {
            What::Strings(command) => command.run(&errand).await,
            What::Versions(command) => command.run(&errand).await,
        };
        let answer = done.unwrap_or_else(Answer::Failed);
        if !self.explain {
            return answer;
        }
        let counts = answer.label();
        let steps = Answer::texts(errand.into_steps());
        let pairs = vec![(Answer::Text("answer".into()), answer), (Answer::Text("steps".into()), steps)];
        Answer::Counted(counts, Box::new(Answer::Map(pairs)))
    }
}
