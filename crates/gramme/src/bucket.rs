//! `gramme bucket`: a bucket's settings. Buckets need no creation; one that nobody has set has the defaults.

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::{print_json, print_line};
use clap::{Args, Subcommand};
use serde_json::{Map, Value as Json};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme bucket get carts\n  gramme bucket set carts r=one w=quorum\n  gramme bucket set sessions mode=lww ttl=3600"
)]
pub(crate) struct Bucket {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Show the settings in force
    #[command(after_help = "Example:\n  gramme bucket get carts")]
    Get(Get),
    /// Change the settings that are named; the others stay
    #[command(after_help = "Example:\n  gramme bucket set sessions mode=lww ttl=3600")]
    Set(Set),
}

#[derive(Args)]
struct Get {
    /// The bucket
    bucket: String,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

#[derive(Args)]
struct Set {
    /// The bucket
    bucket: String,
    /// Settings as NAME=VALUE: r, w, mode, ttl, require_context, buffered and the limits; see docs/http.md
    #[arg(required = true, value_name = "NAME=VALUE")]
    settings: Vec<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Bucket {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Get(get) => get
                .nodes
                .clone()
                .with_client(|client| async move { show(&client.bucket(&get.bucket).await?, get.json) }),
            Action::Set(set) => {
                let settings = read(&set.settings)?;
                set.nodes.clone().with_client(|client| async move {
                    show(&client.set_bucket(&set.bucket, &settings).await?, set.json)
                })
            }
        }
    }
}

fn show(settings: &Json, json: bool) -> Result<(), Failure> {
    match settings.as_object() {
        Some(settings) if !json => settings.iter().try_for_each(|(name, value)| match value {
            Json::String(text) => print_line(&format!("{name}={text}")),
            other => print_line(&format!("{name}={other}")),
        }),
        _ => print_json(settings),
    }
}

/// Numbers and booleans become what they look like, everything else is text.
fn read(settings: &[String]) -> Result<Json, Failure> {
    let mut all = Map::new();
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{setting:?} is no setting: write NAME=VALUE, such as r=one"))
        })?;
        let value = match serde_json::from_str(value) {
            Ok(plain @ (Json::Number(_) | Json::Bool(_) | Json::Null)) => plain,
            _ => Json::String(value.to_string()),
        };
        if all.insert(name.to_string(), value).is_some() {
            return Err(Failure::usage(format!("{name} is set twice: keep one of them")));
        }
    }
    Ok(Json::Object(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_are_read_as_what_they_look_like() {
        let typed = ["r=2", "w=quorum", "require_context=true", "mode=lww"].map(String::from);
        let expected = json!({ "r": 2, "w": "quorum", "require_context": true, "mode": "lww" });
        assert_eq!(read(&typed).unwrap(), expected);
        assert!(read(&["r".to_string()]).is_err());
        assert!(read(&["r=1".to_string(), "r=2".to_string()]).is_err());
    }
}
