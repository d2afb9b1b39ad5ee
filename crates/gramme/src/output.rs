//! What commands print: results to stdout, remarks to stderr.

use crate::failure::Failure;
use comfy_table::{Table, presets};
pub(crate) use gramme_server::figures::{counted, grouped};
use serde_json::Value as Json;
use std::io::Write;

/// Prints one JSON document, indented for a person who looks at it.
pub(crate) fn print_json(json: &Json) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(json).map_err(std::io::Error::from)?;
    print_line(&text)
}

/// Prints one line.
pub(crate) fn print_line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Prints bytes as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// A table without lines, as wide as its words.
pub(crate) fn table<S: ToString>(header: impl IntoIterator<Item = S>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.into_iter().map(|word| word.to_string()));
    table
}

/// The table as text, without the blanks that comfy-table puts around it.
pub(crate) fn lines(table: &Table) -> String {
    let text = table.to_string();
    let lines = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// Prints the lines of an explanation to stderr.
pub(crate) fn remark_explanation(via: &gramme_client::Via) {
    if via.retried {
        eprintln!("a first attempt at another node was not answered");
    }
    eprintln!(
        "answered by {}{}",
        via.node,
        via.acks.as_deref().map(|a| format!("; acks {a}")).unwrap_or_default()
    );
    via.explain.iter().for_each(|line| eprintln!("{line}"));
}
