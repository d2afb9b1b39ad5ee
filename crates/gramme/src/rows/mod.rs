//! Rows of files, one at a time: what `import` reads and `export` writes.
//!
//! A row is a JSON object, its columns in the order of the file. TSV is the plain kind (IANA
//! text/tab-separated-values): no quoting, so a quote is a quote, and a field can hold neither a tab nor an end
//! of line. CSV follows RFC 4180. JSON lines hold one object each, which is kept byte for byte.
//!
//! Invariant: what one format reads, the same format writes back as the same rows. A row that a format cannot
//! hold is refused by name, never bent to fit.

mod read;
mod write;

pub(crate) use read::{BadRow, Reader, Row};
pub(crate) use write::Writer;

use clap::ValueEnum;
use std::path::Path;

/// How a file holds rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tab-separated values with a header line, without quoting
    Tsv,
    /// Comma-separated values with a header line, quoted as RFC 4180 says
    Csv,
    /// One JSON object a line
    Jsonl,
}

impl Format {
    /// The format that a file's name promises.
    pub(crate) fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "tsv" | "tab" => Some(Format::Tsv),
            "csv" => Some(Format::Csv),
            "jsonl" | "ndjson" => Some(Format::Jsonl),
            _ => None,
        }
    }
}

/// One line of a file, and one row; larger than any value.
const LINE_BYTES_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests;
