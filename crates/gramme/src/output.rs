//! What commands print: results to stdout, remarks to stderr.

use crate::failure::Failure;
use comfy_table::{Table, presets};
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

/// A number with thin groups of three, as people read it.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `2 rows`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_counted() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (49970, "49,970"), (1234567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(counted(1, "row", "rows"), "1 row");
        assert_eq!(counted(2, "row", "rows"), "2 rows");
    }
}
