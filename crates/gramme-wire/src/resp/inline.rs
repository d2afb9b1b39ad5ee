//! Commands as people type them into `nc`: words between blanks, quoted where they must be. The rules are those
//! of Redis's `sdssplitargs`.

use bytes::Bytes;

/// The words of a line; `None` if a quote is not closed, or is closed in the middle of a word.
pub(super) fn split(line: &[u8]) -> Option<Vec<Bytes>> {
    let mut words = Vec::new();
    let end = line.iter().position(|&byte| byte == 0).unwrap_or(line.len());
    let mut line = Line(&line[..end]);
    loop {
        while line.first().is_some_and(is_blank) {
            line.skip(1);
        }
        if line.first().is_none() {
            return Some(words);
        }
        words.push(word(&mut line)?);
    }
}

fn word(line: &mut Line<'_>) -> Option<Bytes> {
    let mut word = Vec::new();
    loop {
        match line.first() {
            None | Some(b' ' | b'\n' | b'\r' | b'\t') => return Some(word.into()),
            Some(quote @ (b'"' | b'\'')) => {
                line.skip(1);
                if quote == b'"' {
                    double_quoted(line, &mut word)?
                } else {
                    single_quoted(line, &mut word)?
                }
                return line.first().is_none_or(is_blank).then(|| word.into());
            }
            Some(byte) => {
                word.push(byte);
                line.skip(1);
            }
        }
    }
}

/// Up to and behind the closing quote.
fn double_quoted(line: &mut Line<'_>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        let (byte, len) = match *line.rest() {
            [b'"', ..] => {
                line.skip(1);
                return Some(());
            }
            [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(high) << 4 | hex(low), 4)
            }
            [b'\\', b'n', ..] => (b'\n', 2),
            [b'\\', b'r', ..] => (b'\r', 2),
            [b'\\', b't', ..] => (b'\t', 2),
            [b'\\', b'b', ..] => (0x08, 2),
            [b'\\', b'a', ..] => (0x07, 2),
            [b'\\', other, ..] => (other, 2),
            [byte, ..] => (byte, 1),
            [] => return None,
        };
        word.push(byte);
        line.skip(len);
    }
}

/// Up to and behind the closing quote; only `\'` is special.
fn single_quoted(line: &mut Line<'_>, word: &mut Vec<u8>) -> Option<()> {
    loop {
        let (byte, len) = match *line.rest() {
            [b'\'', ..] => {
                line.skip(1);
                return Some(());
            }
            [b'\\', b'\'', ..] => (b'\'', 2),
            [byte, ..] => (byte, 1),
            [] => return None,
        };
        word.push(byte);
        line.skip(len);
    }
}

/// What is left of a line; it ends at its first NUL, as it does in C.
struct Line<'a>(&'a [u8]);

impl<'a> Line<'a> {
    fn rest(&self) -> &'a [u8] {
        self.0
    }

    fn first(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn skip(&mut self, count: usize) {
        self.0 = &self.0[count..];
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    char::from(digit).to_digit(16).map_or(0, |value| value as u8)
}
