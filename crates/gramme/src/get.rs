//! `gramme get`: the raw value to stdout. Several siblings are no value: they are shown on stderr, and the
//! exit code says so.

use crate::failure::Failure;
use crate::keys::KeyArguments;
use crate::nodes::Nodes;
use crate::output::{print_bytes, print_json, print_line, remark_explanation};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use gramme_client::{Client, ContextToken, Got, Read, Sibling, Siblings};
use serde_json::{Value as Json, json};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme get carts u42 > cart.json\n  gramme get carts u42 --siblings          all versions, as JSON\n  gramme get carts u42 --sibling 1f..9.3   one of them\n  gramme put carts u42 pen --context \"$(gramme get carts u42 --context)\"\n\nExit codes: 3 if the key has several siblings, 4 if there is no such key."
)]
pub(crate) struct Get {
    #[command(flatten)]
    key: KeyArguments,
    /// Print every version with its context as JSON, even if there is only one
    #[arg(long, visible_alias = "json")]
    siblings: bool,
    /// Print the sibling with this id
    #[arg(long, value_name = "ID", conflicts_with = "siblings")]
    sibling: Option<String>,
    /// Print only the context, for a later put or del
    #[arg(long, conflicts_with_all = ["siblings", "sibling"])]
    context: bool,
    /// Answer only with a state that has seen this context: read your own writes
    #[arg(long, value_name = "CONTEXT")]
    min: Option<String>,
    /// Override the bucket's settings for this read, such as "r=all; timeout=2s"
    #[arg(long, value_name = "TEXT")]
    consistency: Option<String>,
    /// Say on stderr who was asked and when each answered
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Get {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.key.check()?;
        self.nodes.clone().with_client(|client| async move { self.get(&client).await })
    }

    async fn get(&self, client: &Client) -> Result<(), Failure> {
        let read = Read {
            consistency: self.consistency.clone(),
            min: self.min.as_ref().map(ContextToken::new),
            explain: self.explain,
        };
        if self.siblings || self.sibling.is_some() {
            return self.versions(client, &read).await;
        }
        let (got, via) = client.get_with(&self.key.bucket, &self.key.key(), &read).await?;
        if self.explain {
            remark_explanation(&via);
        }
        if self.context {
            return match got.context() {
                Some(context) => print_line(context.as_str()),
                None => Err(self.missing("was never written, so it has no context: put it without one")),
            };
        }
        match got {
            Got::One(value) => print_bytes(&value.bytes),
            Got::Siblings(several) => Err(self.conflict(&several)),
            Got::Deleted(_) => Err(self.missing("was deleted")),
            Got::Missing => Err(self.missing("does not exist")),
        }
    }

    async fn versions(&self, client: &Client, read: &Read) -> Result<(), Failure> {
        let found = client.siblings(&self.key.bucket, &self.key.key(), read).await?;
        let Some(several) = found else {
            return Err(self.missing("does not exist"));
        };
        let Some(id) = &self.sibling else {
            return print_json(&as_json(&several));
        };
        match several.siblings.iter().find(|sibling| &sibling.id == id) {
            Some(Sibling { bytes: Some(bytes), .. }) => print_bytes(bytes),
            Some(_) => Err(self.missing("was deleted by that sibling")),
            None => Err(self.missing(&format!("has no sibling {id}: see them with --siblings"))),
        }
    }

    fn missing(&self, what: &str) -> Failure {
        Failure::missing(format!("{} {what}", self.key.name()))
    }

    fn conflict(&self, several: &Siblings) -> Failure {
        let mut text = format!(
            "{} has {} siblings, written without knowing of each other:",
            self.key.name(),
            several.siblings.len()
        );
        for sibling in &several.siblings {
            text.push_str(&format!("\n  {}  {}  {}", sibling.id, sibling.time, glimpse(sibling)));
        }
        text.push_str(
            "\nPrint one with --sibling ID or all with --siblings; whatever you put with their context (--context) replaces them all.",
        );
        Failure::conflict(text)
    }
}

/// The same form in which nodes give siblings.
pub(crate) fn as_json(several: &Siblings) -> Json {
    let siblings: Vec<Json> = several.siblings.iter().map(sibling_json).collect();
    json!({ "context": several.context.as_str(), "siblings": siblings })
}

fn sibling_json(sibling: &Sibling) -> Json {
    let mut json = json!({ "id": sibling.id, "content_type": sibling.content_type });
    if let Some(bytes) = &sibling.bytes {
        match std::str::from_utf8(bytes) {
            Ok(text) => json["text"] = text.into(),
            Err(_) => json["base64"] = STANDARD.encode(bytes).into(),
        }
    }
    json["meta"] = json!(sibling.meta);
    json["time"] = sibling.time.clone().into();
    json["node"] = sibling.node.clone().into();
    json["deleted"] = sibling.bytes.is_none().into();
    json
}

/// The beginning of a value, on one line.
fn glimpse(sibling: &Sibling) -> String {
    let Some(bytes) = &sibling.bytes else {
        return "(deleted)".to_string();
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if text.chars().count() <= GLIMPSE_CHARS => format!("{text:?}"),
        Ok(text) => format!("{:?}...", text.chars().take(GLIMPSE_CHARS).collect::<String>()),
        Err(_) => format!("({} bytes, {})", bytes.len(), sibling.content_type),
    }
}

const GLIMPSE_CHARS: usize = 60;
