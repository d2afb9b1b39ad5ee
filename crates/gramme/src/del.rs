//! `gramme del`: a deletion is a write of its own, which later writers see.

use crate::failure::Failure;
use crate::keys::KeyArguments;
use crate::nodes::Nodes;
use crate::output::{print_json, remark_explanation};
use crate::put::as_json;
use clap::Args;
use gramme_client::{ContextToken, Write};
use serde_json::json;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme del carts u42\n  gramme del carts u42 --context \"$(gramme get carts u42 --context)\"\n\nWithout --context it deletes what a read sees at that moment; deleting what is not there is no\nerror."
)]
pub(crate) struct Del {
    #[command(flatten)]
    key: KeyArguments,
    /// Delete exactly what the reader of this context saw; what was written meanwhile stays
    #[arg(long, value_name = "CONTEXT")]
    context: Option<String>,
    /// Override the bucket's settings for this write, such as "w=all; timeout=2s"
    #[arg(long, value_name = "TEXT")]
    consistency: Option<String>,
    /// Say on stderr who was asked and when each answered
    #[arg(long)]
    explain: bool,
    /// Print the new context, who acknowledged and which node answered, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Del {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.key.check()?;
        self.nodes.clone().with_client(|client| async move {
            let write = Write {
                context: self.context.as_ref().map(ContextToken::new),
                consistency: self.consistency.clone(),
                explain: self.explain,
                ..Write::default()
            };
            let written = client.delete(&self.key.bucket, &self.key.key(), &write).await?;
            let Some(written) = written else {
                return if self.json { print_json(&json!({ "deleted": false })) } else { Ok(()) };
            };
            if self.explain {
                remark_explanation(&written.via);
            }
            if self.json { print_json(&as_json(&written)) } else { Ok(()) }
        })
    }
}
