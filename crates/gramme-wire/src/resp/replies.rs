//! Answers as bytes, in the protocol version that the client chose with HELLO. Where RESP2 has no type for an
//! answer, it gets the one that Redis gives it there.

use crate::outgoing::Outgoing;
use bytes::Bytes;

/// Which protocol a client has chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// What every connection begins with.
    #[default]
    Resp2,
    /// After `HELLO 3`.
    Resp3,
}

impl Version {
    /// 2 or 3, as HELLO names them.
    pub fn number(self) -> i64 {
        match self {
            Version::Resp2 => 2,
            Version::Resp3 => 3,
        }
    }
}

/// Appends answers to what leaves for one client.
#[derive(Debug)]
pub struct Replies<'a> {
    version: Version,
    out: &'a mut Outgoing,
}

impl<'a> Replies<'a> {
    /// Answers in this version, behind what already waits in `out`.
    pub fn new(version: Version, out: &'a mut Outgoing) -> Replies<'a> {
        Replies { version, out }
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// `+OK`.
    pub fn ok(&mut self) {
        self.out.put_slice(b"+OK\r\n");
    }

    /// A short text. Line ends in it become blanks.
    pub fn simple(&mut self, text: &str) {
        self.text_line(b'+', text);
    }

    /// An error; the text begins with its code, as in `ERR syntax error`. Line ends in it become blanks.
    pub fn error(&mut self, text: &str) {
        self.text_line(b'-', text);
    }

    /// A whole number.
    pub fn integer(&mut self, value: i64) {
        self.number_line(b':', value);
    }

    /// Bytes, copied.
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.number_line(b'$', bytes.len() as i64);
        self.out.put_slice(bytes);
        self.out.put_slice(b"\r\n");
    }

    /// A value: large ones are shared with whoever holds them.
    pub fn value(&mut self, value: &Bytes) {
        self.number_line(b'$', value.len() as i64);
        self.out.put_bytes(value);
        self.out.put_slice(b"\r\n");
    }

    /// No value.
    pub fn null(&mut self) {
        self.by_version(b"$-1\r\n", b"_\r\n");
    }

    /// No array.
    pub fn null_array(&mut self) {
        self.by_version(b"*-1\r\n", b"_\r\n");
    }

    /// An array of as many answers as follow.
    pub fn array(&mut self, len: usize) {
        self.number_line(b'*', len as i64);
    }

    /// A map of so many names and values, which follow in turn; in RESP2 an array of both.
    pub fn map(&mut self, pairs: usize) {
        match self.version {
            Version::Resp2 => self.array(2 * pairs),
            Version::Resp3 => self.number_line(b'%', pairs as i64),
        }
    }

    /// A set of so many answers, which follow; in RESP2 an array.
    pub fn set(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.array(len),
            Version::Resp3 => self.number_line(b'~', len as i64),
        }
    }

    /// Something nobody asked for, in so many parts that follow; in RESP2 an array.
    pub fn push(&mut self, len: usize) {
        match self.version {
            Version::Resp2 => self.array(len),
            Version::Resp3 => self.number_line(b'>', len as i64),
        }
    }

    /// Yes or no; in RESP2 1 or 0.
    pub fn boolean(&mut self, value: bool) {
        match (self.version, value) {
            (Version::Resp2, _) => self.integer(value.into()),
            (Version::Resp3, true) => self.out.put_slice(b"#t\r\n"),
            (Version::Resp3, false) => self.out.put_slice(b"#f\r\n"),
        }
    }

    /// A number with a fraction; in RESP2 its text.
    pub fn double(&mut self, value: f64) {
        let text = double_text(value);
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => self.text_line(b',', &text),
        }
    }

    /// Text that a client may show as it is; in RESP2 a plain one. INFO answers with it.
    pub fn verbatim(&mut self, text: &str) {
        match self.version {
            Version::Resp2 => self.bulk(text.as_bytes()),
            Version::Resp3 => {
                self.number_line(b'=', text.len() as i64 + 4);
                self.out.put_slice(b"txt:");
                self.out.put_slice(text.as_bytes());
                self.out.put_slice(b"\r\n");
            }
        }
    }

    fn by_version(&mut self, resp2: &[u8], resp3: &[u8]) {
        self.out.put_slice(match self.version {
            Version::Resp2 => resp2,
            Version::Resp3 => resp3,
        });
    }

    fn text_line(&mut self, kind: u8, text: &str) {
        self.out.put_slice(&[kind]);
        if text.bytes().any(|b| matches!(b, b'\r' | b'\n')) {
            self.out.put_slice(text.replace(['\r', '\n'], " ").as_bytes());
        } else {
            self.out.put_slice(text.as_bytes());
        }
        self.out.put_slice(b"\r\n");
    }

    /// `kind`, the number, CRLF: built from its end, since every answer has one.
    fn number_line(&mut self, kind: u8, value: i64) {
        let mut line = [0; LINE_BYTES];
        let mut at = LINE_BYTES - 2;
        line[at..].copy_from_slice(b"\r\n");
        let mut left = value.unsigned_abs();
        loop {
            at -= 1;
            line[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            line[at] = b'-';
        }
        at -= 1;
        line[at] = kind;
        self.out.put_slice(&line[at..]);
    }
}

/// The shortest text that reads back as the same number, in the notation of Redis.
fn double_text(value: f64) -> String {
    let size = value.abs();
    if value.is_nan() {
        "nan".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "inf" } else { "-inf" }.to_owned()
    } else if size != 0.0 && !(1e-5..1e17).contains(&size) {
        let text = format!("{value:e}");
        if text.contains("e-") { text } else { text.replace('e', "e+") }
    } else {
        value.to_string()
    }
}

/// A kind, a sign, the 19 digits of `i64`, CRLF.
const LINE_BYTES: usize = 1 + 1 + 19 + 2;
