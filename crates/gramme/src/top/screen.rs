//! One screen of a look: as much of it as fits, the most telling first.
//!
//! Invariant: no line is longer and no screen taller than the size asked for; every node that is not as it should be
//! is shown before any that is.

use super::going::{Going, load_sentence};
use super::ring;
use super::terminal::{Line, Paint, Size};
use super::view::{Rate, Row, View};
use crate::status::load::Load;
use crate::status::word;
use gramme_server::figures::{bytes, counted, grouped, span};
use serde_json::Value as Json;
use std::time::Duration;

/// What there is to show.
pub(super) struct Shown<'a> {
    pub(super) view: &'a View,
    pub(super) load: Option<&'a Load>,
    /// Time of day of the answer.
    pub(super) answered: &'a str,
    /// Since the first question.
    pub(super) now: Duration,
    /// Why there was no answer since.
    pub(super) silent: Option<&'a str>,
}

/// The lines of a screen.
pub(super) fn screen(shown: &Shown<'_>, size: Size) -> Vec<Line> {
    let mut lines = head(shown, size.columns);
    lines.push(Line::default());
    let (mut wrong, going) = (wrong(shown, size.columns), going(shown, size.columns));
    let nodes = shown.view.nodes().len();
    // Under the head stand the table's own and the line of all nodes.
    let room = size.rows.saturating_sub(lines.len() + 2);
    let listed = nodes.min(room.saturating_sub((wrong.len() + going.len() + 1).min(room / 2)));
    lines.extend(table(shown, listed, size.columns));
    if listed < nodes {
        let more = counted((nodes - listed) as u64, "more node", "more nodes");
        lines.push(Line::of(Paint::Quiet, format!("… {more}")));
    }
    lines.push(Line::default());
    // What is wrong leaves room for what is going on; `gramme status` has the whole of it.
    let most = size.rows.saturating_sub(lines.len() + going.len()).clamp(WRONG_LINES_MIN, WRONG_LINES_MAX);
    if wrong.len() > most {
        wrong.truncate(most - 1);
        wrong.push(Line::of(Paint::Quiet, "… `gramme status` has the rest"));
    }
    lines.extend(wrong);
    lines.extend(going);
    lines.truncate(size.rows);
    lines
}

fn head(shown: &Shown<'_>, columns: usize) -> Vec<Line> {
    let overview = &shown.view.overview;
    let (verdict, asked) = (&overview["verdict"], &overview["asked"]);
    let age = span(shown.now.saturating_sub(shown.view.at).as_secs());
    let (paint, level, sentence) = match shown.silent {
        Some(why) => (Paint::Bad, "silent".to_string(), format!("no answer for {age}: {why}")),
        None => {
            let level = word(&verdict["level"]);
            let paint = match level.as_str() {
                "healthy" => Paint::Good,
                "degraded" => Paint::Warn,
                _ => Paint::Bad,
            };
            (paint, level, word(&verdict["sentence"]))
        }
    };
    let when = match shown.silent {
        Some(_) => format!("what is below is of {} UTC", shown.answered),
        None => format!("{} UTC, {age} ago", shown.answered),
    };
    let second = format!(
        "{when}, seen from {}; cluster {}, N={}, {} partitions",
        word(&asked["node"]["name"]),
        word(&asked["cluster"]),
        asked["layout"]["n"],
        asked["layout"]["partitions"],
    );
    let mut lines = under(paint, &format!("{:<10}", level.to_uppercase()), &sentence, columns);
    lines.push(Line::of(Paint::Quiet, second));
    lines
}

type Cell = (Paint, String);

/// One column: its name, whether it holds words, how easily it is done without (0: never), a cell per row.
struct Column {
    name: &'static str,
    is_words: bool,
    spare: u8,
    cells: Vec<Cell>,
}

impl Column {
    fn width(&self) -> usize {
        let cells = self.cells.iter().map(|(_, text)| text.chars().count());
        cells.max().unwrap_or(0).max(self.name.chars().count())
    }
}

/// The table with its head, a row for all nodes and `listed` nodes.
fn table(shown: &Shown<'_>, listed: usize, columns: usize) -> Vec<Line> {
    let shares = shown.load.map(|load| load.shares(shown.view.nodes())).unwrap_or_default();
    let weights: f64 = shown.view.nodes().iter().map(weight).sum();
    let members: Vec<Member<'_>> = chosen(shown.view, listed)
        .into_iter()
        .map(|at| {
            let node = &shown.view.nodes()[at];
            Member {
                row: &shown.view.rows[at],
                node,
                carries: shares.get(at).map(|share| share.carries).filter(|_| has_load(shown.load)),
                fair: if weights > 0.0 { weight(node) / weights } else { 0.0 },
            }
        })
        .collect();
    let mut all = columns_of(shown, &members);
    let width = |all: &[Column]| all.iter().map(|column| column.width() + 2).sum::<usize>().saturating_sub(2);
    while width(&all) > columns {
        let most = all.iter().map(|column| column.spare).max().unwrap_or(0);
        if most == 0 {
            break;
        }
        all.retain(|column| column.spare < most);
    }
    let line = |cell: &dyn Fn(&Column) -> Cell| {
        let mut line = Line::default();
        for (at, column) in all.iter().enumerate() {
            let (paint, text) = cell(column);
            let blank = " ".repeat(column.width() - text.chars().count());
            let gap = if at == 0 { "" } else { "  " };
            // The last words of a line need no blanks behind them.
            line = match column.is_words {
                true if at + 1 == all.len() => line.and(Paint::Plain, gap).and(paint, text),
                true => line.and(Paint::Plain, gap).and(paint, text).and(Paint::Plain, blank),
                false => line.and(Paint::Plain, format!("{gap}{blank}")).and(paint, text),
            };
        }
        line
    };
    let mut lines = vec![line(&|column| (Paint::Head, column.name.to_string()))];
    lines.extend((0..=members.len()).map(|row| line(&|column| column.cells[row].clone())));
    lines
}

fn weight(node: &Json) -> f64 {
    node["described"]["weight"].as_f64().unwrap_or(1.0)
}

fn has_load(load: Option<&Load>) -> bool {
    load.is_some_and(|load| load.total() > 0.0)
}

/// Which nodes are listed, if not all can be: those that are not as they should be come first.
fn chosen(view: &View, listed: usize) -> Vec<usize> {
    let rank = |at: &usize| match view.nodes()[*at]["colour"].as_str() {
        Some("green") => 2,
        Some("yellow") => 1,
        _ => 0,
    };
    let mut order: Vec<usize> = (0..view.nodes().len()).collect();
    order.sort_by_key(rank);
    order.truncate(listed);
    order.sort_unstable();
    order
}

/// A node, from all sides.
struct Member<'a> {
    row: &'a Row,
    node: &'a Json,
    carries: Option<f64>,
    fair: f64,
}

impl Member<'_> {
    fn says(&self, section: &str, key: &str) -> Option<u64> {
        self.node["says"][section][key].as_u64()
    }

    fn state(&self, now: Duration) -> Cell {
        let paint = match self.node["colour"].as_str() {
            Some("green") => Paint::Good,
            Some("yellow") => Paint::Warn,
            _ => Paint::Bad,
        };
        let state = word(&self.node["state"]);
        (
            paint,
            match self.row.silent_for(now) {
                Some((time, true)) => format!("{state} >{}", span(time.as_secs())),
                Some((time, false)) => format!("{state} {}", span(time.as_secs())),
                None => state,
            },
        )
    }

    /// Beyond 15 % of what is fair it is marked, as the paper counts.
    fn load(&self) -> Cell {
        let Some(carries) = self.carries else { return nothing() };
        let is_out = (carries - self.fair).abs() > 0.15 * self.fair;
        (if is_out { Paint::Warn } else { Paint::Plain }, percent(carries))
    }

    /// Marked by the limits of `gramme doctor`.
    fn free(&self) -> Cell {
        let Some(free) = self.says("machine", "disk_free_bytes") else { return nothing() };
        let reserve = self.says("machine", "disk_reserve_bytes").unwrap_or(0);
        let paint = match free {
            _ if free <= reserve => Paint::Bad,
            _ if free <= reserve.saturating_mul(4) => Paint::Warn,
            _ => Paint::Plain,
        };
        (paint, bytes(free))
    }
}

fn columns_of(shown: &Shown<'_>, members: &[Member<'_>]) -> Vec<Column> {
    let all = shown.view.all();
    let going = Going::of(shown.view);
    let column = |name, is_words, spare, of_all: Cell, of: &dyn Fn(&Member<'_>) -> Cell| {
        let cells = std::iter::once(of_all).chain(members.iter().map(of)).collect();
        Column { name, is_words, spare, cells }
    };
    let plain = |text: String| (Paint::Plain, text);
    let blank = || plain(String::new());
    let mut columns = vec![
        column("NODE", true, 0, plain("all".to_string()), &|member| plain(cut(&member.row.name))),
        column("ZONE", true, 7, blank(), &|member| plain(cut(&word(&member.node["described"]["zone"])))),
        column("STATE", true, 0, blank(), &|member| member.state(shown.now)),
    ];
    for (operation, name) in [(0, "GET/S"), (1, "PUT/S")] {
        let of = |rates: &Option<[Rate; 2]>, figure: &dyn Fn(&Rate) -> Cell| match rates {
            Some(rates) => figure(&rates[operation]),
            None => nothing(),
        };
        columns.push(column(name, false, 0, of(&all, &per_s), &|member| of(&member.row.rates, &per_s)));
        for (name, spare, quantile) in [("P50", 8, 0.5), ("P99", 3, 0.99), ("P99.9", 6, 0.999)] {
            let took = |rate: &Rate| rate.took.quantile_us(quantile).map_or_else(nothing, millis);
            columns.push(column(name, false, spare, of(&all, &took), &|member| of(&member.row.rates, &took)));
        }
    }
    let figure = |value: Option<u64>, paint: Paint| match value {
        Some(0) => plain("0".to_string()),
        Some(value) => (paint, grouped(value)),
        None => nothing(),
    };
    let stored: u64 = members.iter().filter_map(|member| member.says("store", "stored_bytes")).sum();
    columns.extend([
        column("HINTS", false, 2, figure(Some(going.hints), Paint::Warn), &|member| {
            figure(member.says("node", "hints"), Paint::Warn)
        }),
        column("TOMBS", false, 5, figure(Some(going.tombstones), Paint::Plain), &|member| {
            figure(member.says("store", "tombstones"), Paint::Plain)
        }),
        column("LOAD", false, 1, blank(), &|member| member.load()),
        column("FAIR", false, 4, blank(), &|member| plain(percent(member.fair))),
        column("STORED", false, 9, plain(bytes(stored)), &|member| {
            member.says("store", "stored_bytes").map_or_else(nothing, |stored| plain(bytes(stored)))
        }),
        column("FREE", false, 4, blank(), &|member| member.free()),
    ]);
    columns
}

fn nothing() -> Cell {
    (Paint::Quiet, "-".to_string())
}

fn per_s(rate: &Rate) -> Cell {
    let shown = match rate.per_s {
        0.0 => "0".to_string(),
        few if few < 9.95 => format!("{few:.1}"),
        many => grouped(many.round() as u64),
    };
    (Paint::Plain, shown)
}

/// Milliseconds, with a digit behind the point where it tells something.
fn millis(us: u64) -> Cell {
    (Paint::Plain, if us < 9950 { format!("{:.1}", us as f64 / 1000.0) } else { grouped((us + 500) / 1000) })
}

fn percent(part: f64) -> String {
    format!("{:.1}%", part * 100.0)
}

/// A name that leaves room for the rest.
fn cut(name: &str) -> String {
    if name.chars().count() <= NAME_MAX {
        return name.to_string();
    }
    let mut cut: String = name.chars().take(NAME_MAX - 1).collect();
    cut.push('…');
    cut
}

/// What is wrong, the worst first, with what to do about it.
fn wrong(shown: &Shown<'_>, columns: usize) -> Vec<Line> {
    let mut problems: Vec<(Paint, String, String)> = Vec::new();
    for problem in shown.view.overview["change"]["problems"].as_array().into_iter().flatten() {
        let sentence = format!("{}: {}", word(&problem["what"]), word(&problem["remedy"]));
        problems.push((Paint::Warn, "the ring: ".to_string(), sentence));
    }
    for node in shown.view.nodes() {
        let paint = if node["colour"] == "red" { Paint::Bad } else { Paint::Warn };
        for problem in node["problems"].as_array().into_iter().flatten() {
            let sentence = format!("{}: {}", word(&problem["what"]), word(&problem["remedy"]));
            problems.push((paint, format!("{}: ", word(&node["name"])), sentence));
        }
    }
    problems.sort_by_key(|(paint, _, _)| *paint != Paint::Bad);
    problems.iter().flat_map(|(paint, name, sentence)| under(*paint, name, sentence, columns)).collect()
}

/// What is going on besides requests, and what the table's words mean.
fn going(shown: &Shown<'_>, columns: usize) -> Vec<Line> {
    let mut sentences = ring::sentences(&shown.view.overview["change"]);
    sentences.extend(Going::of(shown.view).sentences());
    if let Some(load) = shown.load {
        sentences.push(("load", load_sentence(load, shown.view.nodes())));
    }
    let widest = sentences.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let of = |(name, sentence): &(&str, String)| {
        under(Paint::Head, &format!("{name:<widest$}  "), sentence, columns)
    };
    let mut lines: Vec<Line> = sentences.iter().flat_map(of).collect();
    lines.extend(wrapped(LEGEND, columns).into_iter().map(|line| Line::of(Paint::Quiet, line)));
    lines
}

/// A sentence beside a name, in as many lines as it takes.
fn under(paint: Paint, name: &str, sentence: &str, columns: usize) -> Vec<Line> {
    let indent = name.chars().count();
    let line = |(at, part): (usize, String)| match at {
        0 => Line::of(paint, name).and(Paint::Plain, part),
        _ => Line::of(Paint::Plain, " ".repeat(indent)).and(Paint::Plain, part),
    };
    // Where so little room is left that each word had a line, it is cut.
    wrapped(sentence, columns.saturating_sub(indent).max(20)).into_iter().enumerate().map(line).collect()
}

/// A text in lines of at most `columns`, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for next in text.split(' ') {
        let length = lines.last().map_or(0, |line| line.chars().count());
        match lines.last_mut() {
            Some(line) if length == 0 => line.push_str(next),
            Some(line) if length + 1 + next.chars().count() <= columns => {
                line.push(' ');
                line.push_str(next);
            }
            _ => lines.push(next.to_string()),
        }
    }
    lines
}

const NAME_MAX: usize = 24;
const WRONG_LINES_MIN: usize = 2;
const WRONG_LINES_MAX: usize = 8;
const LEGEND: &str =
    "P: milliseconds, since the answer before; LOAD: of all homes' load, in the last minute or two";

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, colour: &str, says: Json) -> Json {
        let state = if says.is_null() { "down" } else { "up" };
        json!({
            "name": name, "state": state, "colour": colour, "share": 0.5, "says": says, "problems": [],
            "described": { "zone": "z1", "weight": 1 },
        })
    }

    fn says(uptime_ms: u64, gets: u64, puts: u64) -> Json {
        json!({
            "node": { "uptime_ms": uptime_ms, "hints": 0, "hint_oldest_ms": 0 },
            "store": { "tombstones": 3, "stored_bytes": 2 << 20 },
            "audits": { "oldest_ms": 61_000, "missing": 0, "different": 0 },
            "machine": { "disk_free_bytes": 5u64 << 30, "disk_reserve_bytes": 1 << 30 },
            "latency": { "get": [[400, gets], [12_400, gets / 50]], "put": [[1600, puts]] },
        })
    }

    fn overview(nodes: Vec<Json>) -> Json {
        json!({
            "verdict": { "level": "healthy", "sentence": "2 of 2 nodes up" },
            "nodes": nodes,
            "asked": { "cluster": "c1", "node": { "name": "n0" }, "layout": { "n": 2, "partitions": 256 } },
        })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Two looks at two nodes, a second apart; in between n0 has served 100 gets and n1 2,040 and 1 put.
    fn busy() -> View {
        let first = overview(vec![
            node("n0", "green", says(9_000, 0, 0)),
            node("n1", "green", says(5_000, 1_000, 9)),
        ]);
        let second = overview(vec![
            node("n0", "green", says(10_000, 100, 0)),
            node("n1", "green", says(6_000, 3_000, 10)),
        ]);
        View::next(Some(&View::next(None, first, at(0))), second, at(1))
    }

    fn load() -> Load {
        let of = |partition: u64, reads: u64, homes: &[&str]| json!({ "partition": partition, "reads": reads, "writes": 0, "homes": homes });
        let told = json!({ "window_ms": 60_000, "partitions": [of(7, 900, &["n1"]), of(8, 100, &["n0"])] });
        Load::of(vec![("http://h:0".to_string(), Ok(told))])
            .unwrap_or_else(|bad| panic!("{}", bad.sentence()))
    }

    fn text(view: &View, now: Duration, silent: Option<&str>, columns: usize, rows: usize) -> Vec<String> {
        let load = load();
        let shown = Shown { view, load: Some(&load), answered: "08:12:05", now, silent };
        let lines = screen(&shown, Size { columns, rows });
        lines.iter().map(|line| line.fitted(columns, false).trim_end().to_string()).collect()
    }

    #[test]
    fn a_wide_terminal_shows_everything() {
        let expected = [
            "HEALTHY   2 of 2 nodes up",
            "08:12:05 UTC, 2 s ago, seen from n0; cluster c1, N=2, 256 partitions",
            "",
            "NODE  ZONE  STATE  GET/S  P50  P99  P99.9  PUT/S  P50  P99  P99.9  HINTS  TOMBS   LOAD   FAIR   STORED     FREE",
            "all                2,142  0.4   12     12    1.0  1.6  1.6    1.6      0      6                4.0 MiB",
            "n0    z1    up       102  0.4   12     12      0    -    -      -      0      3  10.0%  50.0%  2.0 MiB  5.0 GiB",
            "n1    z1    up     2,040  0.4   12     12    1.0  1.6  1.6    1.6      0      3  90.0%  50.0%  2.0 MiB  5.0 GiB",
            "",
            "hints    none is kept for another node",
            "refills  no node is being refilled",
            "audits   the oldest is of 1 min ago",
            "load     partition 7 is the hottest: 90.0% of requests, at n1; 2 of 2 nodes carry over 15 % more or less than fair",
            LEGEND,
        ];
        assert_eq!(text(&busy(), at(3), None, 130, 40), expected);
    }

    #[test]
    fn a_narrow_or_low_one_shows_what_tells_most_and_nothing_runs_over() {
        let view = busy();
        for (columns, rows) in [(130, 40), (80, 24), (60, 12), (40, 8), (20, 5), (1, 1)] {
            let text = text(&view, at(3), None, columns, rows);
            assert!(text.len() <= rows, "{text:#?}");
            assert!(text.iter().all(|line| line.chars().count() <= columns), "{text:#?}");
        }
        let whole = text(&view, at(3), None, 60, 24).join(" ");
        let whole: Vec<&str> = whole.split_whitespace().collect();
        assert!(whole.join(" ").contains("2 of 2 nodes carry over 15 % more or less than fair"), "{whole:?}");
        let head = |columns: usize| text(&view, at(3), None, columns, 24)[3].split_whitespace().count();
        assert_eq!([130, 80, 48, 30].map(head), [17, 11, 6, 4]);
        assert_eq!(text(&view, at(3), None, 30, 24)[3], "NODE  STATE  GET/S  PUT/S");
    }

    #[test]
    fn of_many_nodes_those_that_are_not_well_are_listed_first() {
        let nodes = (0..40).map(|number| match number {
            37 => node("n37", "red", Json::Null),
            _ => node(&format!("n{number:02}"), "green", says(9_000, 0, 0)),
        });
        let mut answer = overview(nodes.collect());
        answer["nodes"][37]["problems"] = json!([{ "what": "it is down", "remedy": "start it again" }]);
        let screen = text(&View::next(None, answer, at(0)), at(12), None, 80, 24);
        let lines = screen.join("\n");
        assert_eq!(screen.len(), 24, "{lines}");
        assert!(lines.contains("n37   down >12 s"), "{lines}");
        assert!(
            lines.contains("more nodes\n") && lines.contains("n37: it is down: start it again"),
            "{lines}"
        );
        assert!(lines.contains("hints    none"), "{lines}");
    }

    #[test]
    fn without_an_answer_the_last_one_stays_with_its_age() {
        let screen = text(&busy(), at(31), Some("http://h:0: no answer within 3000 ms"), 130, 40);
        assert_eq!(screen[0], "SILENT    no answer for 30 s: http://h:0: no answer within 3000 ms");
        assert!(screen[1].starts_with("what is below is of 08:12:05 UTC, seen from n0"), "{}", screen[1]);
        assert!(screen[6].starts_with("n1"), "{}", screen[6]);
    }

    #[test]
    fn what_is_wrong_leaves_room_for_what_is_going_on() {
        let mut answer =
            overview(vec![node("n0", "green", says(9_000, 0, 0)), node("n1", "red", Json::Null)]);
        let remedy = "start it again, and it fetches what it missed from the others; if its disk is lost, start it with an empty directory, and it is refilled";
        answer["nodes"][1]["problems"] = json!([{ "what": "it is down", "remedy": remedy }]);
        answer["verdict"] = json!({
            "level": "degraded",
            "sentence": "1 of 2 nodes up; requests at quorum go on, but no further node may fail",
        });
        let screen = text(&View::next(None, answer, at(0)), at(0), None, 60, 16);
        let expected = [
            "DEGRADED  1 of 2 nodes up; requests at quorum go on, but no",
            "          further node may fail",
        ];
        assert_eq!(screen[..2], expected, "what may fail is read to its end");
        assert_eq!(screen[9], "n1: it is down: start it again, and it fetches what it", "{screen:#?}");
        assert!(
            screen[10].starts_with("… `gramme status`") && screen[11].starts_with("hints"),
            "{screen:#?}"
        );
        assert_eq!(screen.len(), 16, "{screen:#?}");
    }

    #[test]
    fn a_ring_that_changes_says_how_far_it_is_and_what_it_waits_for() {
        let mut answer = overview(vec![node("n0", "green", says(9_000, 0, 0))]);
        let number = |version: u64| json!({ "version": version, "lineage": 0 });
        answer["change"] = json!({
            "layout": {
                "changing": true, "reads": number(4), "target": number(5), "head": number(5), "waiting": 0,
                "awaited": [{ "name": "n3" }], "staged": [], "asking": [], "leaving": [],
            },
            "transfers": [{ "name": "n4", "arrived": 48, "coming": 16, "handing_over": 0, "bytes_per_s": 2 << 20 }],
            "problems": [{ "what": "n3 is down", "remedy": "start it again" }],
        });
        let screen = text(&View::next(None, answer, at(0)), at(0), None, 100, 30).join("\n");
        assert!(
            screen.contains("ring     layout 4 -> 5 [#########...] 48 of 64 partitions are there, 2.0 MiB/s, waiting for n3"),
            "{screen}"
        );
        assert!(screen.contains("the ring: n3 is down: start it again"), "{screen}");
    }

    #[test]
    fn long_words_are_broken_between_them() {
        assert_eq!(wrapped("it is down; start it", 10), ["it is", "down;", "start it"]);
        assert_eq!(wrapped("incomprehensible it", 5), ["incomprehensible", "it"]);
        assert_eq!([850, 9_949, 9_950, 1_234_567].map(|us| millis(us).1), ["0.8", "9.9", "10", "1,235"]);
        assert_eq!(cut("a-node-with-a-name-that-is-long").chars().count(), NAME_MAX);
    }
}
