//! `gramme ring`: where a key lives, and what each of its homes holds. Homes that hold the same show the same
//! version.

use crate::failure::Failure;
use crate::keys::{Notation, readable};
use crate::nodes::Nodes;
use crate::output::{lines, print_json, print_line, table};
use clap::Args;
use serde_json::Value as Json;
use std::ffi::OsString;

#[derive(Args)]
#[command(
    allow_missing_positional = true,
    after_help = "Examples:\n  gramme ring carts u42\n  gramme ring greeting            a key of bucket default"
)]
pub(crate) struct Ring {
    /// The bucket
    #[arg(default_value = "default")]
    bucket: String,
    /// The key
    #[arg(required = true)]
    key: OsString,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    notation: Notation,
    #[command(flatten)]
    nodes: Nodes,
}

impl Ring {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let key = self.notation.read(&self.key);
        gramme_core::Key::new(&self.bucket, &key).map_err(|bad| Failure::usage(bad.to_string()))?;
        self.nodes.clone().with_client(|client| async move {
            let found = client.ring(&self.bucket, &key).await?;
            if self.json { print_json(&found) } else { print_line(&text(&self.bucket, &key, &found)) }
        })
    }
}

fn text(bucket: &str, key: &[u8], found: &Json) -> String {
    let mut homes = table(["HOME", "ID", "VERSION", "HOLDS"]);
    let listed = found["homes"].as_array().map_or(&[][..], Vec::as_slice);
    for home in listed {
        homes.add_row([word(&home["name"]), word(&home["node"]), version(home), holds(home)]);
    }
    let mut text =
        format!("{bucket}/{} is in partition {}\n{}", readable(key), found["partition"], lines(&homes));
    let versions: Vec<String> = listed.iter().filter(|home| home["error"].is_null()).map(version).collect();
    if versions.windows(2).any(|pair| pair[0] != pair[1]) {
        text.push_str("\nthe homes hold different versions: reading the key repairs them");
    }
    let fallbacks: Vec<String> =
        found["fallbacks"].as_array().into_iter().flatten().map(|node| word(&node["name"])).collect();
    if !fallbacks.is_empty() {
        text.push_str(&format!("\nfallbacks, in order: {}", fallbacks.join(", ")));
    }
    text
}

fn version(home: &Json) -> String {
    match home["holds"]["etag"].as_str() {
        Some(etag) => etag.to_string(),
        None => "-".to_string(),
    }
}

fn holds(home: &Json) -> String {
    if let Some(why) = home["error"].as_str() {
        return format!("did not answer: {why}");
    }
    let Some(siblings) = home["holds"]["siblings"].as_array() else {
        return "nothing".to_string();
    };
    let each: Vec<String> = siblings
        .iter()
        .map(|sibling| match sibling["bytes"].as_u64() {
            Some(1) => format!("1 byte of {}", word(&sibling["time"])),
            Some(bytes) => format!("{bytes} bytes of {}", word(&sibling["time"])),
            None => format!("a deletion of {}", word(&sibling["time"])),
        })
        .collect();
    match each.as_slice() {
        [] => "nothing".to_string(),
        [one] => one.clone(),
        several => format!("{} siblings: {}", several.len(), several.join("; ")),
    }
}

fn word(json: &Json) -> String {
    json.as_str().map_or_else(|| json.to_string(), str::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn homes_that_differ_are_told_apart() {
        let value = json!({ "id": "a.1", "time": "T1", "bytes": 3, "deleted": false });
        let gone = json!({ "id": "a.2", "time": "T2", "bytes": null, "deleted": true });
        let found = json!({
            "partition": 7,
            "homes": [
                { "node": "0a", "name": "n1", "holds": { "etag": "11", "siblings": [value.clone()] } },
                { "node": "0b", "name": "n2", "holds": { "etag": "22", "siblings": [value, gone] } },
                { "node": "0c", "name": "n3", "holds": null },
                { "node": "0d", "name": "n4", "error": "no connection" },
            ],
            "fallbacks": [{ "node": "0e", "name": "n5" }],
        });
        let expected = "carts/u42 is in partition 7\n\
                        HOME  ID  VERSION  HOLDS\n\
                        n1    0a  11       3 bytes of T1\n\
                        n2    0b  22       2 siblings: 3 bytes of T1; a deletion of T2\n\
                        n3    0c  -        nothing\n\
                        n4    0d  -        did not answer: no connection\n\
                        the homes hold different versions: reading the key repairs them\n\
                        fallbacks, in order: n5";
        assert_eq!(text("carts", b"u42", &found), expected);
    }
}
