use super::*;

fn read(format: Format, key: &str, text: impl AsRef<[u8]>) -> Vec<Result<Row, BadRow>> {
    let mut reader = Reader::new(text.as_ref(), format, key).unwrap();
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

fn refused(format: Format, key: &str, text: &str) -> String {
    Reader::new(text.as_bytes(), format, key).err().expect("the header should be refused")
}

fn write(format: Format, columns: &[&str], values: &[&str]) -> (String, Vec<String>) {
    let mut writer = Writer::new(Vec::new(), format, columns.iter().map(ToString::to_string).collect());
    let refused = values.iter().filter_map(|value| writer.row(value.as_bytes()).unwrap().err()).collect();
    (String::from_utf8(writer.finish().unwrap()).unwrap(), refused)
}

/// Through a bucket and back.
fn there_and_back(format: Format, key: &str, text: &str) -> String {
    let rows: Vec<Row> = read(format, key, text).into_iter().map(Result::unwrap).collect();
    let values: Vec<&str> = rows.iter().map(|row| row.json.as_str()).collect();
    let (written, refused) = write(format, &[], &values);
    assert_eq!(refused, [""; 0]);
    written
}

#[test]
fn what_was_read_is_written_back_byte_for_byte() {
    for (format, key, text) in [
        (Format::Tsv, "name", "name\tsummary\nsly\t\"SLY - Sly Lex Yacc\"\nempty\t\nodd\t a \\t b \"\n"),
        (Format::Tsv, "b", "a\tb\nä\t☃\n"),
        (
            Format::Csv,
            "name",
            "name,summary\nsly,\"a \"\"quoted\"\" word\"\ntwo,\"lines\nhere, too\"\nempty,\n",
        ),
        (Format::Jsonl, "id", "{\"id\":1.0,\"nested\":{\"a\":[1,2]}}\n{ \"id\" : \"x\" }\n"),
    ] {
        assert_eq!(there_and_back(format, key, text), text, "{format:?}");
    }
}

#[test]
fn columns_keep_their_order_and_every_field_is_text() {
    let rows = read(Format::Tsv, "name", "version\tname\n1.0\tpen\n");
    let row = Row { line: 2, key: "pen".into(), json: r#"{"version":"1.0","name":"pen"}"#.into() };
    assert_eq!(rows, [Ok(row)]);
}

#[test]
fn a_bad_row_is_told_with_its_line_and_the_others_are_read() {
    for (format, text, line, why) in [
        (Format::Tsv, "name\tb\nx\nok\t1\n".as_bytes(), 2, "it has 1 fields, the header 2"),
        (Format::Tsv, b"name\tb\n\xff\t\nok\t1\n", 2, "it is not UTF-8"),
        (Format::Tsv, b"name\tb\n\t1\nok\t1\n", 2, "its key is empty"),
        (Format::Csv, b"name,b\n\"a\nb\",1,2\nok,1\n", 2, "it has 3 fields, the header 2"),
        (Format::Csv, b"name,b\n\xff,1\nok,1\n", 2, "it is not UTF-8"),
        (Format::Jsonl, b"[1]\n{\"name\":\"ok\"}\n", 1, "it is not a JSON object"),
        (Format::Jsonl, b"{\"nam\":1}\n{\"name\":\"ok\"}\n", 1, "it has no \"name\" to take a key from"),
        (
            Format::Jsonl,
            b"{\"name\":[]}\n{\"name\":\"ok\"}\n",
            1,
            "its \"name\" is neither text nor a number",
        ),
    ] {
        let rows = read(format, "name", text);
        assert_eq!(rows[0], Err(BadRow { line, why: why.into() }));
        assert_eq!(rows[1].as_ref().unwrap().key, "ok");
        assert_eq!(rows.len(), 2);
    }
}

#[test]
fn a_json_line_that_is_cut_short_says_what_is_wrong_with_it() {
    let rows = read(Format::Jsonl, "k", "{\"k\":1");
    assert!(rows[0].as_ref().unwrap_err().why.starts_with("it is not JSON"), "{rows:?}");
}

#[test]
fn files_from_other_systems_are_read() {
    for text in ["\u{feff}name\tb\r\nx\ty\r\n", "name\tb\nx\ty", "name\tb\r\nx\ty"] {
        assert_eq!(read(Format::Tsv, "name", text)[0].as_ref().unwrap().json, r#"{"name":"x","b":"y"}"#);
    }
    for text in ["name,b\r\nx,y\r\n", "\u{feff}name,b\nx,y"] {
        let rows = read(Format::Csv, "name", text);
        assert_eq!(rows[0].as_ref().unwrap().json, r#"{"name":"x","b":"y"}"#);
    }
    let stray = read(Format::Csv, "name", "name,b\nx,5\" disk\ny,1\n");
    assert_eq!(
        (stray.len(), stray[0].as_ref().unwrap().json.as_str()),
        (2, r#"{"name":"x","b":"5\" disk"}"#)
    );
    assert_eq!(
        read(Format::Csv, "name", "name,b\r\nx,y\r\n")[0].as_ref().unwrap().json,
        r#"{"name":"x","b":"y"}"#
    );
    let kept = read(Format::Tsv, "name", "name\tb\nx\ty\r\n");
    assert_eq!(kept[0].as_ref().unwrap().json, r#"{"name":"x","b":"y\r"}"#, "a lone CR is part of a field");
}

#[test]
fn a_header_that_cannot_give_keys_is_refused() {
    assert_eq!(
        refused(Format::Tsv, "id", "name\tb\n"),
        "there is no column \"id\" to take keys from: the file has name, b"
    );
    assert_eq!(refused(Format::Csv, "a", "a,a\n"), "the header names the column \"a\" twice");
    assert!(refused(Format::Tsv, "a", "").contains("empty"));
}

#[test]
fn a_value_that_a_format_cannot_hold_is_refused_by_name_and_the_others_are_written() {
    for (format, value, why) in [
        (Format::Tsv, r#"{"a":"x\ty"}"#, "has a tab or an end of line"),
        (Format::Tsv, r#"{"a":"1","b":"2"}"#, "a column \"b\" that the header lacks"),
        (Format::Csv, r#"{"a":[1]}"#, "is a list or an object"),
        (Format::Csv, "plain text", "no JSON object"),
    ] {
        let (written, refused) = write(format, &[], &[r#"{"a":"1"}"#, value, r#"{"a":2}"#]);
        assert_eq!(written, "a\n1\n2\n");
        assert!(refused.len() == 1 && refused[0].contains(why), "{refused:?}");
    }
}

#[test]
fn a_json_value_of_several_lines_becomes_one() {
    let (written, refused) = write(Format::Jsonl, &[], &["{\n \"b\": 1,\n \"a\": 2\n}\n"]);
    assert_eq!((written.as_str(), refused.len()), ("{\"b\":1,\"a\":2}\n", 0));
}

#[test]
fn columns_that_were_asked_for_come_in_their_order_even_without_rows() {
    let (written, _) = write(Format::Csv, &["b", "a"], &[r#"{"a":1,"b":true}"#, r#"{"b":null}"#]);
    assert_eq!(written, "b,a\ntrue,1\n,\n");
    assert_eq!(write(Format::Tsv, &["a", "b"], &[]).0, "a\tb\n");
}

#[test]
fn names_of_files_promise_formats() {
    for (name, format) in [
        ("a.tsv", Some(Format::Tsv)),
        ("b.CSV", Some(Format::Csv)),
        ("c.ndjson", Some(Format::Jsonl)),
        ("d", None),
    ] {
        assert_eq!(Format::of(Path::new(name)), format);
    }
}
