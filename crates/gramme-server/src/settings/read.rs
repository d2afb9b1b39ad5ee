//! Where settings are said, turned into one list of (key, text, place): the file with its lines, the
//! environment, the flags.

use super::keys::{KEYS, Key, Kind};
use std::collections::BTreeSet;
use std::path::Path;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One value that somebody wrote.
pub(super) struct Entry {
    /// For which key.
    pub key: &'static Key,
    /// As text, whatever its type.
    pub text: String,
    /// Where it was written, for errors.
    pub place: String,
    /// Whether the settings file said it.
    pub in_file: bool,
}

/// The entries of a TOML file.
pub(super) fn file(text: &str, path: &Path, problems: &mut Vec<String>) -> Vec<Entry> {
    let place = |at: usize| format!("{} line {}", path.display(), line_of(text, at));
    let document = match DeTable::parse(text) {
        Ok(document) => document,
        Err(e) => {
            let at = place(e.span().map_or(0, |span| span.start));
            problems.push(format!("{at}: this is not TOML: {}", e.message()));
            return Vec::new();
        }
    };
    let mut entries = Vec::new();
    for (section, inner) in document.get_ref() {
        let name = section.get_ref().as_ref();
        let at = place(section.span().start);
        let DeValue::Table(table) = inner.get_ref() else {
            problems.push(format!("{at}: {}", unknown(name)));
            continue;
        };
        if !sections().contains(name) {
            problems.push(format!("{at}: unknown section [{name}]{}", suggestion(name, sections())));
            continue;
        }
        for (key, value) in table {
            let full = format!("{name}.{}", key.get_ref());
            entries.extend(file_entry(&full, value, place(key.span().start), problems));
        }
    }
    entries
}

fn file_entry(
    name: &str,
    value: &Spanned<DeValue<'_>>,
    place: String,
    problems: &mut Vec<String>,
) -> Option<Entry> {
    let Some(key) = key_of(name) else {
        problems.push(format!("{place}: {}", unknown(name)));
        return None;
    };
    let text = match (key.kind, value.get_ref()) {
        (Kind::Text | Kind::List, DeValue::String(text)) => text.to_string(),
        (Kind::List, DeValue::Array(items)) if items.iter().all(|item| item.get_ref().is_str()) => {
            let words: Vec<&str> = items.iter().filter_map(|item| item.get_ref().as_str()).collect();
            words.join(",")
        }
        (Kind::Number, DeValue::Integer(number)) => number.to_string(),
        (Kind::Flag, DeValue::Boolean(flag)) => flag.to_string(),
        (kind, other) => {
            problems.push(format!("{place}: {name} must be {}, not {}", kind.as_str(), described(other)));
            return None;
        }
    };
    Some(Entry { key, text, place, in_file: true })
}

/// The entries of the environment: variables named `GRAMME_SECTION__KEY`. Other `GRAMME_` variables belong to
/// client commands.
pub(super) fn env(
    variables: impl IntoIterator<Item = (String, String)>,
    problems: &mut Vec<String>,
) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (variable, text) in variables {
        let Some((section, key)) = variable.strip_prefix("GRAMME_").and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let name = format!("{}.{}", section.to_ascii_lowercase(), key.to_ascii_lowercase());
        match key_of(&name) {
            Some(key) => {
                let place = format!("environment variable {variable}");
                entries.push(Entry { key, text, place, in_file: false });
            }
            None => problems.push(format!("environment variable {variable}: {}", unknown(&name))),
        }
    }
    entries
}

/// The entries of the command line.
pub(super) fn flags(flags: &[(&str, String)], problems: &mut Vec<String>) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (name, text) in flags {
        match key_of(name) {
            Some(key) => {
                let place = "command line".to_owned();
                entries.push(Entry { key, text: text.clone(), place, in_file: false });
            }
            None => problems.push(format!("command line: {}", unknown(name))),
        }
    }
    entries
}

fn key_of(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn sections() -> BTreeSet<&'static str> {
    KEYS.iter().filter_map(|key| key.name.split_once('.')).map(|(section, _)| section).collect()
}

fn unknown(name: &str) -> String {
    // A key in the wrong section is the commonest slip, so the last part alone is compared as well.
    let last = name.rsplit('.').next().unwrap_or(name);
    let moved = KEYS.iter().find(|key| key.name.rsplit('.').next() == Some(last));
    match moved {
        Some(key) => format!("unknown key {name}: did you mean {}?", key.name),
        None => format!("unknown key {name}{}", suggestion(name, KEYS.iter().map(|key| key.name))),
    }
}

fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match crate::nearest(name, known) {
        Some(near) => format!(": did you mean {near}?"),
        None => ": docs/settings.md lists all keys".into(),
    }
}

fn described(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|&&b| b == b'\n').count()
}
