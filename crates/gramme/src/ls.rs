//! `gramme ls`: the keys of a bucket, streamed, one a line.

use crate::failure::Failure;
use crate::keys::Notation;
use crate::nodes::Nodes;
use crate::output::counted;
use clap::Args;
use gramme_client::{Client, Listing};
use std::ffi::OsString;
use std::io::Write;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme ls carts\n  gramme ls carts --prefix u4 | head\n  gramme ls carts --json          a line per key: how many siblings, and when it was written\n\nKeys come in the order of the ring, the same at every node, not in that of the alphabet."
)]
pub(crate) struct Ls {
    /// The bucket
    bucket: String,
    /// Only keys that start with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<OsString>,
    /// At most so many keys
    #[arg(long, value_name = "KEYS")]
    limit: Option<u64>,
    /// Print a JSON line for each key
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    notation: Notation,
    #[command(flatten)]
    nodes: Nodes,
}

impl Ls {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move { self.list(&client).await })
    }

    async fn list(&self, client: &Client) -> Result<(), Failure> {
        let prefix = self.prefix.as_ref().map(|typed| self.notation.read(typed)).unwrap_or_default();
        let mut list = client.list(&self.bucket, Listing { prefix: prefix.into(), ..Listing::default() })?;
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        let (mut keys, mut conflicts) = (0u64, 0u64);
        while self.limit.is_none_or(|limit| keys < limit) {
            let Some(entry) = list.next().await? else { break };
            match self.json {
                true => out.write_all(&entry.line)?,
                false => out.write_all(&self.notation.written(&entry.key))?,
            }
            out.write_all(b"\n")?;
            keys += 1;
            conflicts += u64::from(entry.siblings > 1);
        }
        out.flush()?;
        if conflicts > 0 {
            eprintln!(
                "{} with several siblings: see them with `gramme get --siblings`",
                counted(conflicts, "key", "keys")
            );
        }
        Ok(())
    }
}
