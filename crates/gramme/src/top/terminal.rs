//! A screen of its own on a terminal, by the few control codes that every terminal of today knows. Whoever leaves, by
//! whatever way but SIGKILL, finds the terminal as it was.

use std::io::{IsTerminal, Write, stdout};

/// How much of a text fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) columns: usize,
    pub(super) rows: usize,
}

/// What a part of a line stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    /// What is said beside.
    Quiet,
    Head,
    Good,
    Warn,
    Bad,
}

/// A line of a screen, in parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(Vec<(Paint, String)>);

impl Line {
    pub(super) fn of(paint: Paint, text: impl Into<String>) -> Line {
        Line(vec![(paint, text.into())])
    }

    pub(super) fn and(mut self, paint: Paint, text: impl Into<String>) -> Line {
        self.0.push((paint, text.into()));
        self
    }

    /// Its first `columns` characters, the last of them an ellipsis if there were more; painted if `colours`.
    pub(super) fn fitted(&self, columns: usize, colours: bool) -> String {
        let length: usize = self.0.iter().map(|(_, text)| text.chars().count()).sum();
        let mut left = if length > columns { columns.saturating_sub(1) } else { length };
        let mut fitted = String::new();
        for (paint, text) in &self.0 {
            let part: String = text.chars().take(left).collect();
            left -= part.chars().count();
            match paint.code() {
                Some(code) if colours && !part.is_empty() => {
                    fitted.push_str(&format!("\x1b[{code}m{part}\x1b[0m"));
                }
                _ => fitted.push_str(&part),
            }
        }
        if length > columns {
            fitted.push('…');
        }
        fitted
    }
}

impl Paint {
    fn code(self) -> Option<&'static str> {
        match self {
            Paint::Plain => None,
            Paint::Quiet => Some("2"),
            Paint::Head => Some("1"),
            Paint::Good => Some("32"),
            Paint::Warn => Some("33"),
            Paint::Bad => Some("1;31"),
        }
    }
}

/// The terminal at stdout, with its other screen shown until this is dropped.
pub(super) struct Terminal {
    colours: bool,
    is_left: bool,
}

impl Terminal {
    /// Whether there is one.
    pub(super) fn is_there() -> bool {
        stdout().is_terminal()
    }

    pub(super) fn enter() -> std::io::Result<Terminal> {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        let mut terminal = Terminal { colours, is_left: true };
        terminal.enter_again()?;
        Ok(terminal)
    }

    /// Shows the other screen again.
    pub(super) fn enter_again(&mut self) -> std::io::Result<()> {
        self.is_left = false;
        say(ENTER)
    }

    /// Gives the terminal back.
    pub(super) fn leave(&mut self) -> std::io::Result<()> {
        if std::mem::replace(&mut self.is_left, true) {
            return Ok(());
        }
        say(LEAVE)
    }

    /// Shows these lines and nothing else; `size` is what they were made for.
    pub(super) fn show(&self, lines: &[Line], size: Size) -> std::io::Result<()> {
        say(&frame(lines, size, self.colours))
    }

    /// How large it is. What it does not tell, the shell may.
    pub(super) fn size() -> Size {
        let told = rustix::termios::tcgetwinsize(stdout()).map(|size| (size.ws_col, size.ws_row));
        let (columns, rows) = told.unwrap_or((0, 0));
        let or = |told: u16, variable: &str, usual: usize| match usize::from(told) {
            0 => std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(usual),
            told => told,
        };
        Size { columns: or(columns, "COLUMNS", 80), rows: or(rows, "LINES", 24) }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // There is nobody to tell if the terminal is gone.
        drop(self.leave());
    }
}

/// Over what is there, line by line, so that nothing flickers; what is left of it is taken away.
fn frame(lines: &[Line], size: Size, colours: bool) -> String {
    let shown: Vec<String> = lines
        .iter()
        .take(size.rows)
        .map(|line| format!("{}\x1b[K", line.fitted(size.columns, colours)))
        .collect();
    format!("\x1b[H{}\x1b[J", shown.join("\r\n"))
}

fn say(text: &str) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The other screen, no cursor, no line that goes on in the next one.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_its_colours_do_not_count() {
        let line = Line::of(Paint::Bad, "down").and(Paint::Plain, " for 12 s");
        assert_eq!(line.fitted(80, false), "down for 12 s");
        assert_eq!(line.fitted(13, true), "\x1b[1;31mdown\x1b[0m for 12 s");
        assert_eq!(line.fitted(8, true), "\x1b[1;31mdown\x1b[0m fo…");
        assert_eq!((line.fitted(3, false), line.fitted(0, false)), ("do…".to_string(), "…".to_string()));
    }

    #[test]
    fn a_frame_is_never_taller_than_the_terminal() {
        let lines = ["a", "b", "c"].map(|text| Line::of(Paint::Plain, text));
        let framed = frame(&lines, Size { columns: 9, rows: 2 }, true);
        assert_eq!(framed, "\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J");
    }
}
