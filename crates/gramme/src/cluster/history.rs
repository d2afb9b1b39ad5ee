//! `gramme cluster history`: the layouts that there were.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{lines, print_json, print_line, table};
use crate::status::word;
use clap::Args;
use serde_json::Value as Json;

#[derive(Args)]
#[command(after_help = "Example:\n  gramme cluster history")]
pub(super) struct History {
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl History {
    pub(super) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move {
            let history = client.history().await?;
            if self.json { print_json(&history) } else { print_line(&screen(&history)) }
        })
    }
}

fn screen(history: &Json) -> String {
    let mut rows = table(["LAYOUT", "HASH", "MEMBERS", "CAME", "WENT", "MOVED", "RETURNS TO"]);
    for layout in history["layouts"].as_array().into_iter().flatten() {
        let names = |list: &str| {
            let names: Vec<String> = layout[list].as_array().into_iter().flatten().map(word).collect();
            if names.is_empty() { "-".to_string() } else { names.join(", ") }
        };
        rows.add_row([
            numbered(layout),
            word(&layout["hash"]),
            word(&layout["members"]),
            names("came"),
            names("went"),
            word(&layout["moved"]),
            layout["back_to"].as_u64().map_or_else(|| "-".to_string(), |version| version.to_string()),
        ]);
    }
    lines(&rows)
}

/// A layout's number as people say it.
pub(crate) fn numbered(decree: &Json) -> String {
    match decree["lineage"].as_u64() {
        None | Some(0) => word(&decree["version"]),
        Some(lineage) => format!("{} of lineage {lineage}", decree["version"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_layout_is_a_line() {
        let history = json!({ "layouts": [
            { "version": 1, "lineage": 0, "hash": "aa", "members": 3, "came": ["n1", "n2", "n3"], "went": [], "moved": 0, "back_to": null },
            { "version": 2, "lineage": 1, "hash": "bb", "members": 3, "came": [], "went": ["n3"], "moved": 85, "back_to": 1 },
        ] });
        let expected = "LAYOUT          HASH  MEMBERS  CAME        WENT  MOVED  RETURNS TO\n\
            1               aa    3        n1, n2, n3  -     0      -\n\
            2 of lineage 1  bb    3        -           n3    85     1";
        assert_eq!(screen(&history), expected);
    }
}
