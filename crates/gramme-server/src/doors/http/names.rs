//! What nodes are called. A node that is about to join, or has gone, is in no layout: its own word says its name.

use super::failed;
use super::problem::Problem;
use crate::doors::Service;
use gramme_core::NodeId;
use gramme_core::limits::REQUEST_MS;
use gramme_node::request::{Call, Request, Response};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Every node that is known here, by its id.
#[derive(Clone, Debug, Default)]
pub(super) struct Names(BTreeMap<NodeId, Known>);

#[derive(Clone, Debug)]
struct Known {
    name: String,
    /// Where clients reach it.
    http: String,
}

impl Names {
    /// What the layout and the nodes themselves say.
    pub(super) async fn of(service: &Service) -> Result<Names, Problem> {
        let mut names = Names::default();
        for member in service.layout().members() {
            names.add(member.id, &member.name, &member.http);
        }
        match service.shards.call(Call { timeout_ms: REQUEST_MS, request: Request::Nodes }).await {
            Response::Nodes(nodes) => {
                nodes.iter().for_each(|known| names.add(known.node, &known.fact.name, &known.fact.http));
                Ok(names)
            }
            other => Err(failed(other)),
        }
    }

    /// The last word on a node counts.
    pub(super) fn add(&mut self, node: NodeId, name: &str, http: &str) {
        if !name.is_empty() {
            self.0.insert(node, Known { name: name.to_owned(), http: http.to_owned() });
        }
    }

    /// `{"node": id, "name": name}`; the id where no name is known.
    pub(super) fn json(&self, node: NodeId) -> Value {
        let id = node.to_string();
        let name = self.0.get(&node).map_or(&id, |known| &known.name);
        json!({ "node": id, "name": name })
    }

    /// The same of several.
    pub(super) fn all<'n>(&self, nodes: impl IntoIterator<Item = &'n NodeId>) -> Vec<Value> {
        nodes.into_iter().map(|node| self.json(*node)).collect()
    }

    /// Where clients reach it, if that is known.
    pub(super) fn http(&self, node: NodeId) -> Option<&str> {
        self.0.get(&node).map(|known| &*known.http).filter(|http| !http.is_empty())
    }
}
