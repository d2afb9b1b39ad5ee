//! What a command is answered, before it becomes bytes.

use crate::metrics;
use bytes::Bytes;
use gramme_core::Outcome;
use gramme_wire::Failure;
use gramme_wire::resp::Replies;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Ok,
    Null,
    Integer(i64),
    Boolean(bool),
    Simple(&'static str),
    Value(Bytes),
    Text(String),
    /// Text that a client may show as it is.
    Verbatim(String),
    Array(Vec<Answer>),
    Set(Vec<Answer>),
    Map(Vec<(Answer, Answer)>),
    /// An answer that counts as this.
    Counted(metrics::Answer, Box<Answer>),
    /// Begins with its code.
    Error(String),
    /// The cluster did not do what it was asked.
    Failed(Box<Failure>),
}

impl Answer {
    /// An error with the common code.
    pub(super) fn err(text: impl std::fmt::Display) -> Answer {
        Answer::Error(format!("ERR {text}"))
    }

    /// A list of short texts.
    pub(super) fn texts<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Answer {
        Answer::Array(texts.into_iter().map(|text| Answer::Text(text.into())).collect())
    }

    /// Appends its bytes.
    pub(super) fn write(&self, replies: &mut Replies<'_>) {
        match self {
            Answer::Ok => replies.ok(),
            Answer::Null => replies.null(),
            Answer::Integer(value) => replies.integer(*value),
            Answer::Boolean(value) => replies.boolean(*value),
            Answer::Counted(_, answer) => answer.write(replies),
            Answer::Simple(text) => replies.simple(text),
            Answer::Value(value) => replies.value(value),
            Answer::Text(text) => replies.bulk(text.as_bytes()),
            Answer::Verbatim(text) => replies.verbatim(text),
            Answer::Array(items) => {
                replies.array(items.len());
                items.iter().for_each(|item| item.write(replies));
            }
            Answer::Set(items) => {
                replies.set(items.len());
                items.iter().for_each(|item| item.write(replies));
            }
            Answer::Map(pairs) => {
                replies.map(pairs.len());
                for (name, value) in pairs {
                    name.write(replies);
                    value.write(replies);
                }
            }
            Answer::Error(text) => replies.error(text),
            Answer::Failed(failure) => replies.error(&failed_text(failure)),
        }
    }

    /// How it counts.
    pub(super) fn label(&self) -> metrics::Answer {
        match self {
            Answer::Counted(label, _) => *label,
            Answer::Null => metrics::Answer::NotFound,
            Answer::Error(_) => metrics::Answer::Refused,
            Answer::Failed(failure) => match failure.outcome {
                Outcome::NotApplied if !failure.reason.retryable() => metrics::Answer::Refused,
                Outcome::NotApplied => metrics::Answer::NotApplied,
                Outcome::MaybeApplied | Outcome::Applied => metrics::Answer::MaybeApplied,
            },
            _ => metrics::Answer::Ok,
        }
    }
}

/// Clients send a command again by themselves when they read `TRYAGAIN`: it is said only if nothing was changed
/// and a later attempt may succeed.
fn failed_text(failure: &Failure) -> String {
    let again = failure.outcome == Outcome::NotApplied && failure.reason.retryable();
    let code = if again { "TRYAGAIN" } else { "ERR" };
    format!("{code} {failure} (outcome={})", failure.outcome)
}
