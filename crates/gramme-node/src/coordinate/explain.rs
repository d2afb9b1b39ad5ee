//! One line per step of a request, for people who asked how it was answered (design section 5, Explain).

use crate::env::{Env, Mono};
use crate::node::Node;

/// Lines, if they were asked for.
pub(crate) struct Explain<E: Env> {
    node: Node<E>,
    began: Mono,
    lines: Option<Vec<String>>,
}

impl<E: Env> Explain<E> {
    /// Begins now.
    pub(crate) fn new(node: &Node<E>, wanted: bool) -> Explain<E> {
        Explain { node: node.clone(), began: node.0.env.now(), lines: wanted.then(Vec::new) }
    }

    /// Adds a line; `what` is only built if someone asked.
    pub(crate) fn line(&mut self, what: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            let us = self.node.0.env.now().since(self.began).as_micros();
            lines.push(format!("{:>8.3} ms  {}", us as f64 / 1000.0, what()));
        }
    }

    /// The lines so far.
    pub(crate) fn take(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default()
    }
}
