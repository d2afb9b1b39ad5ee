//! Rows to files. The columns of TSV and CSV are those of the first row, or those that were asked for.

use super::Format;
use serde_json::{Map, Value as Json};
use std::io::{self, Write};

/// A file being written.
pub(crate) struct Writer<W: Write> {
    output: W,
    format: Format,
    columns: Vec<String>,
    header_due: bool,
}

impl<W: Write> Writer<W> {
    /// `columns` may be empty: the first row decides.
    pub(crate) fn new(output: W, format: Format, columns: Vec<String>) -> Writer<W> {
        Writer { output, format, columns, header_due: true }
    }

    /// Writes a value as a row, or says why this format cannot hold it. The outer error is one of the output.
    pub(crate) fn row(&mut self, value: &[u8]) -> io::Result<Result<(), String>> {
        let (text, row) = match read(value) {
            Ok(parsed) => parsed,
            Err(why) => return Ok(Err(why)),
        };
        if self.format == Format::Jsonl {
            let line =
                if text.contains(['\n', '\r']) { Json::Object(row).to_string() } else { text.to_string() };
            self.output.write_all(line.as_bytes())?;
            self.output.write_all(b"\n")?;
            return Ok(Ok(()));
        }
        if self.columns.is_empty() {
            self.columns = row.keys().cloned().collect();
        }
        let fields = match self.fields(&row) {
            Ok(fields) => fields,
            Err(why) => return Ok(Err(why)),
        };
        if std::mem::take(&mut self.header_due) {
            let header = self.columns.clone();
            self.line(&header)?;
        }
        self.line(&fields)?;
        Ok(Ok(()))
    }

    /// Everything has been written; gives the output back.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        if self.header_due && self.format != Format::Jsonl && !self.columns.is_empty() {
            let header = self.columns.clone();
            self.line(&header)?;
        }
        self.output.flush()?;
        Ok(self.output)
    }

    fn fields(&self, row: &Map<String, Json>) -> Result<Vec<String>, String> {
        if let Some(stranger) = row.keys().find(|column| !self.columns.contains(column)) {
            return Err(format!(
                "it has a column {stranger:?} that the header lacks: name all with --columns, or use --format jsonl"
            ));
        }
        let fields = self.columns.iter().map(|column| match row.get(column) {
            None | Some(Json::Null) => Ok(String::new()),
            Some(Json::String(text)) if self.format == Format::Tsv && text.contains(['\t', '\n', '\r']) => Err(
                format!("its {column:?} has a tab or an end of line, which TSV cannot hold: use --format csv or jsonl"),
            ),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(other @ (Json::Number(_) | Json::Bool(_))) => Ok(other.to_string()),
            Some(_) => Err(format!("its {column:?} is a list or an object: use --format jsonl")),
        });
        fields.collect()
    }

    fn line(&mut self, fields: &[String]) -> io::Result<()> {
        match self.format {
            Format::Tsv => writeln!(self.output, "{}", fields.join("\t")),
            Format::Csv => {
                let mut record = csv::Writer::from_writer(&mut self.output);
                record.write_record(fields)?;
                record.flush()
            }
            Format::Jsonl => unreachable!("JSON lines have no fields"),
        }
    }
}

fn read(value: &[u8]) -> Result<(&str, Map<String, Json>), String> {
    let text = std::str::from_utf8(value).ok().map(str::trim);
    match text.map(serde_json::from_str) {
        Some(Ok(Json::Object(row))) => Ok((text.unwrap_or_default(), row)),
        _ => Err("its value is no JSON object: use --format entries".to_string()),
    }
}
