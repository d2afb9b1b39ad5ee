//! `gramme put`: a value from the command line or from stdin, byte for byte.

use crate::failure::Failure;
use crate::keys::KeyArguments;
use crate::nodes::Nodes;
use crate::output::{print_json, remark_explanation};
use clap::Args;
use gramme_client::{Client, ContextToken, Expected, Write, Written};
use gramme_core::limits::VALUE_BYTES_MAX;
use serde_json::{Value as Json, json};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme put carts u42 pen\n  gramme put carts u42 --content-type application/json < cart.json\n  gramme put carts u42 pen --context \"$(gramme get carts u42 --context)\"\n  gramme put sessions s1 token --ttl 3600\n\nWithout --context or --replace nothing is overwritten unseen: the value becomes a sibling of what\nis there, except in a bucket of mode lww."
)]
pub(crate) struct Put {
    #[command(flatten)]
    key: KeyArguments,
    /// The value; it is read from stdin if it is left out
    value: Option<OsString>,
    /// Replace exactly what the reader of this context saw
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// Read the key first, and replace what is there
    #[arg(long, conflicts_with = "context")]
    replace: bool,
    /// Stored with the value [default: application/octet-stream]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// How long the value lives, in seconds
    #[arg(long, value_name = "SECONDS")]
    ttl: Option<u64>,
    /// Override the bucket's settings for this write, such as "w=all; timeout=2s"
    #[arg(long, value_name = "TEXT")]
    consistency: Option<String>,
    /// Write only if there is no value; best effort, not a lock
    #[arg(long, conflicts_with_all = ["if_present", "if_match", "replace"])]
    if_absent: bool,
    /// Write only if there is a value
    #[arg(long, conflicts_with_all = ["if_match", "replace"])]
    if_present: bool,
    /// Write only if the key still has this ETag
    #[arg(long, value_name = "ETAG", conflicts_with = "replace")]
    if_match: Option<String>,
    /// Answer once enough nodes have the value in memory, before it is on their disks
    #[arg(long)]
    buffered: bool,
    /// Say on stderr who was asked and when each answered
    #[arg(long)]
    explain: bool,
    /// Print the new context, who acknowledged and which node answered, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Put {
    pub(crate) fn run(mut self) -> Result<(), Failure> {
        self.key.check()?;
        let value = match self.value.take() {
            Some(value) => value.into_vec(),
            None => from_stdin()?,
        };
        self.nodes.clone().with_client(|client| async move { self.put(&client, value).await })
    }

    fn expected(&self) -> Option<Expected> {
        match &self.if_match {
            Some(etag) => Some(Expected::Tag(quoted(etag))),
            None if self.if_absent => Some(Expected::Absent),
            None => self.if_present.then_some(Expected::Present),
        }
    }

    async fn put(&self, client: &Client, value: Vec<u8>) -> Result<(), Failure> {
        let (bucket, key) = (&self.key.bucket, self.key.key());
        let context = match self.replace {
            true => client.get(bucket, &key).await?.context().cloned(),
            false => self.context.as_ref().map(ContextToken::new),
        };
        let write = Write {
            context,
            content_type: self.content_type.clone(),
            ttl_seconds: self.ttl,
            consistency: self.consistency.clone(),
            expect: self.expected(),
            buffered: self.buffered.then_some(true),
            explain: self.explain,
            request: None,
        };
        let written = client.put_with(bucket, &key, value, &write).await?;
        if self.explain {
            remark_explanation(&written.via);
        }
        if self.json { print_json(&as_json(&written)) } else { Ok(()) }
    }
}

/// An ETag as headers have it; people leave its quotes to the shell.
fn quoted(etag: &str) -> String {
    if etag.starts_with('"') { etag.to_string() } else { format!("\"{etag}\"") }
}

/// What a write gave back.
pub(crate) fn as_json(written: &Written) -> Json {
    json!({
        "context": written.context.as_str(),
        "etag": written.via.etag,
        "acks": written.via.acks,
        "node": written.via.node,
        "request": written.via.request,
        "retried": written.via.retried,
    })
}

/// All of stdin, as long as a node could take it.
fn from_stdin() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let limit = VALUE_BYTES_MAX as u64 + 1;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut value)
        .map_err(|e| Failure::failed(format!("the value could not be read from stdin: {e}")))?;
    if value.len() as u64 == limit {
        return Err(Failure::usage(format!(
            "the value is longer than {VALUE_BYTES_MAX} bytes, which no bucket takes"
        )));
    }
    Ok(value)
}
