//! Files to rows. A bad row is told with its line and skipped; only a bad header or a broken file ends the
//! reading.

use super::{Format, LINE_BYTES_MAX};
use serde_json::{Map, Value as Json};
use std::io::{self, BufRead, Read};

/// One row to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Where it begins in the file; the first line is 1.
    pub(crate) line: u64,
    /// The value of the key column.
    pub(crate) key: String,
    /// The row as a JSON object.
    pub(crate) json: String,
}

/// A row that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadRow {
    pub(crate) line: u64,
    pub(crate) why: String,
}

/// A file under way.
pub(crate) struct Reader<R> {
    key: String,
    rows: Rows<R>,
}

enum Rows<R> {
    Tsv { lines: Lines<R>, columns: Vec<String>, key_at: usize },
    Csv { records: Box<csv::Reader<Bounded<R>>>, columns: Vec<String>, key_at: usize },
    Jsonl { lines: Lines<R> },
}

impl<R: BufRead> Reader<R> {
    /// Reads the header, if the format has one. `key` names the key column.
    pub(crate) fn new(input: R, format: Format, key: &str) -> Result<Reader<R>, String> {
        let rows = match format {
            Format::Jsonl => Rows::Jsonl { lines: Lines::new(input) },
            Format::Tsv => {
                let mut lines = Lines::new(input);
                let header = utf8(lines.next()?.ok_or(NO_HEADER)?).map_err(|_| "the header is not UTF-8")?;
                let columns: Vec<String> = header.split('\t').map(str::to_string).collect();
                Rows::Tsv { key_at: key_column(&columns, key)?, lines, columns }
            }
            Format::Csv => {
                let input = Bounded { input, left: LINE_BYTES_MAX };
                let mut records =
                    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(input);
                let header = next_record(&mut records)?.ok_or(NO_HEADER)?;
                let columns = fields(&header).map_err(|_| "the header is not UTF-8")?;
                Rows::Csv { key_at: key_column(&columns, key)?, records: Box::new(records), columns }
            }
        };
        Ok(Reader { key: key.to_string(), rows })
    }

    /// The next row, `None` at the end. The outer error is one of the file, and ends it.
    pub(crate) fn next(&mut self) -> Result<Option<Result<Row, BadRow>>, String> {
        let (line, row) = match &mut self.rows {
            Rows::Tsv { lines, columns, key_at } => {
                let Some(text) = lines.next_with_words()? else { return Ok(None) };
                let fields = |text: String| text.split('\t').map(str::to_string).collect();
                (lines.number, utf8(text).and_then(|text| named(columns, *key_at, fields(text))))
            }
            Rows::Jsonl { lines } => {
                let Some(text) = lines.next_with_words()? else { return Ok(None) };
                (lines.number, utf8(text).and_then(|text| object(text, &self.key)))
            }
            Rows::Csv { records, columns, key_at } => {
                let Some(record) = next_record(records)? else { return Ok(None) };
                let line = record.position().map_or(0, csv::Position::line);
                (line, fields(&record).and_then(|fields| named(columns, *key_at, fields)))
            }
        };
        let row = row.map(|(key, json)| Row { line, key, json });
        Ok(Some(row.map_err(|why| BadRow { line, why })))
    }
}

/// The lines of a file without their ends. If the first ends with CR LF, all do.
struct Lines<R> {
    input: R,
    /// Of the line that was given last; the first is 1.
    number: u64,
    crlf: bool,
}

impl<R: BufRead> Lines<R> {
    fn new(input: R) -> Lines<R> {
        Lines { input, number: 0, crlf: false }
    }

    fn next(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut line = Vec::new();
        let mut input = (&mut self.input).take(LINE_BYTES_MAX as u64);
        let read = input.read_until(b'\n', &mut line).map_err(unreadable)?;
        self.number += 1;
        if read == 0 {
            return Ok(None);
        }
        if read == LINE_BYTES_MAX && !line.ends_with(b"\n") {
            return Err(format!("line {} is longer than {LINE_BYTES_MAX} bytes", self.number));
        }
        if self.number == 1 {
            self.crlf = line.ends_with(b"\r\n");
            if line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
        }
        line.pop_if(|byte| *byte == b'\n');
        if self.crlf {
            line.pop_if(|byte| *byte == b'\r');
        }
        Ok(Some(line))
    }

    /// The next line that is not empty.
    fn next_with_words(&mut self) -> Result<Option<Vec<u8>>, String> {
        loop {
            match self.next()? {
                Some(line) if line.is_empty() => {}
                line => return Ok(line),
            }
        }
    }
}

/// An input that ends with an error when one record takes more than its share: a quote that nobody closes
/// would otherwise take the whole file into memory.
struct Bounded<R> {
    input: R,
    left: usize,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other(format!(
                "a row is longer than {LINE_BYTES_MAX} bytes: is a quote left open?"
            )));
        }
        let most = buffer.len().min(self.left);
        let read = self.input.read(&mut buffer[..most])?;
        self.left -= read;
        Ok(read)
    }
}

fn next_record<R: Read>(records: &mut csv::Reader<Bounded<R>>) -> Result<Option<csv::ByteRecord>, String> {
    records.get_mut().left = LINE_BYTES_MAX;
    let mut record = csv::ByteRecord::new();
    Ok(records.read_byte_record(&mut record).map_err(unreadable)?.then_some(record))
}

fn key_column(columns: &[String], key: &str) -> Result<usize, String> {
    for (at, column) in columns.iter().enumerate() {
        if columns[..at].contains(column) {
            return Err(format!("the header names the column {column:?} twice"));
        }
    }
    columns.iter().position(|column| column == key).ok_or_else(|| {
        format!("there is no column {key:?} to take keys from: the file has {}", columns.join(", "))
    })
}

fn utf8(text: Vec<u8>) -> Result<String, String> {
    String::from_utf8(text).map_err(|_| "it is not UTF-8".to_string())
}

fn fields(record: &csv::ByteRecord) -> Result<Vec<String>, String> {
    record.iter().map(|field| utf8(field.to_vec())).collect()
}

fn unreadable(error: impl std::fmt::Display) -> String {
    format!("the file could not be read: {error}")
}

fn named(columns: &[String], key_at: usize, fields: Vec<String>) -> Result<(String, String), String> {
    if fields.len() != columns.len() {
        return Err(format!("it has {} fields, the header {}", fields.len(), columns.len()));
    }
    let key = usable(fields[key_at].clone())?;
    let row: Map<String, Json> = columns.iter().cloned().zip(fields.into_iter().map(Json::String)).collect();
    Ok((key, Json::Object(row).to_string()))
}

fn object(text: String, column: &str) -> Result<(String, String), String> {
    let json: Json = serde_json::from_str(&text).map_err(|e| format!("it is not JSON: {e}"))?;
    let Json::Object(row) = json else {
        return Err("it is not a JSON object".to_string());
    };
    let key = match row.get(column) {
        Some(Json::String(text)) => usable(text.clone())?,
        Some(Json::Number(number)) => number.to_string(),
        Some(_) => return Err(format!("its {column:?} is neither text nor a number")),
        None => return Err(format!("it has no {column:?} to take a key from")),
    };
    Ok((key, text.trim().to_string()))
}

fn usable(key: String) -> Result<String, String> {
    if key.is_empty() { Err("its key is empty".to_string()) } else { Ok(key) }
}

const NO_HEADER: &str = "the file is empty: its first line must name the columns";
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
