//! Commands out of a buffer that grows at its end: arrays of bulk strings, or inline commands.
//!
//! Invariant: the same bytes give the same commands and the same error however they are cut, and each byte is
//! looked at once: a value of 16 MiB that arrives in small pieces costs one comparison per piece.
//!
//! Arguments are slices of the buffer; nothing is copied, except inline commands, which people type.

use super::{ProtocolError, inline};
use bytes::{Buf, Bytes, BytesMut};
use gramme_core::limits::{
    RESP_ARGS_MAX, RESP_BULK_BYTES_MAX, RESP_COMMAND_BYTES_MAX, RESP_INLINE_BYTES_MAX,
};

/// See the module. One per connection.
#[derive(Debug, Default)]
pub struct Parser {
    stranger: bool,
    /// How far into the buffer the command begun has been understood; 0 between commands.
    at: usize,
    /// How far behind `at` a line end has been looked for.
    searched: usize,
    /// Arguments that the command begun still lacks; 0 between commands.
    lacking: usize,
    /// The announced length of the argument at `at`.
    bulk_len: Option<usize>,
    /// Where the arguments so far stand in the buffer: start and length.
    args: Vec<(u32, u32)>,
}

impl Parser {
    /// Between commands, with the limits of a client that need not authenticate.
    pub fn new() -> Parser {
        Parser::default()
    }

    /// Whether the client has yet to authenticate: then it may send at most 10 arguments of 16 KiB.
    pub fn set_stranger(&mut self, stranger: bool) {
        self.stranger = stranger;
    }

    /// The next whole command, taken off the front of `buf`; `None` until more bytes have arrived, which the
    /// caller may only append. At least one argument; empty commands are skipped. After an error the stream
    /// has no known boundaries: answer it and close.
    pub fn next(&mut self, buf: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        loop {
            if self.lacking == 0 {
                match buf.first() {
                    None => return Ok(None),
                    Some(b'*') => match self.begin(buf)? {
                        Some(0) => {
                            buf.advance(self.at);
                            self.at = 0;
                            continue;
                        }
                        Some(count) => self.lacking = count,
                        None => return Ok(None),
                    },
                    Some(_) => match self.inline(buf)? {
                        Some(args) if args.is_empty() => continue,
                        done => return Ok(done),
                    },
                }
            }
            return if self.fill(buf)? { Ok(Some(self.finish(buf))) } else { Ok(None) };
        }
    }

    /// Bytes that the argument begun lacks; 0 if none is. Advice for the next read.
    pub fn missing(&self, buf: &BytesMut) -> usize {
        self.bulk_len.map_or(0, |len| (self.at + len + 2).saturating_sub(buf.len()))
    }

    /// The count of arguments, once its line is whole; 0 for an empty command.
    fn begin(&mut self, buf: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::MultibulkLine)? else { return Ok(None) };
        let count = number(&line[1..]).ok_or(ProtocolError::MultibulkLength)?;
        if count > RESP_ARGS_MAX as i64 {
            return Err(ProtocolError::MultibulkLength);
        }
        if self.stranger && count > STRANGER_ARGS_MAX {
            return Err(ProtocolError::UnauthenticatedMultibulkLength);
        }
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    /// Takes arguments until none is lacking (`true`) or the buffer ends.
    fn fill(&mut self, buf: &BytesMut) -> Result<bool, ProtocolError> {
        while self.lacking > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.bulk(buf)? {
                    Some(len) => *self.bulk_len.insert(len),
                    None => return Ok(false),
                },
            };
            // The two bytes behind an argument are skipped unseen, as Redis does.
            if buf.len() < self.at + len + 2 {
                return Ok(false);
            }
            self.args.push((self.at as u32, len as u32));
            self.at += len + 2;
            self.bulk_len = None;
            self.lacking -= 1;
        }
        Ok(true)
    }

    /// The length of the next argument, once its line is whole.
    fn bulk(&mut self, buf: &BytesMut) -> Result<Option<usize>, ProtocolError> {
        let Some(line) = self.line(buf, ProtocolError::BulkLine)? else { return Ok(None) };
        // An empty line shows its own end where the `$` should stand.
        let first = line.first().copied().unwrap_or(b'\r');
        if first != b'$' {
            return Err(ProtocolError::ExpectedBulk(first));
        }
        let len = number(&line[1..]).ok_or(ProtocolError::BulkLength)?;
        if self.stranger && len > STRANGER_BULK_BYTES_MAX {
            return Err(ProtocolError::UnauthenticatedBulkLength);
        }
        match usize::try_from(len) {
            Ok(len) if len > RESP_BULK_BYTES_MAX => Err(ProtocolError::BulkLength),
            Ok(len) if self.at + len + 2 > RESP_COMMAND_BYTES_MAX => Err(ProtocolError::CommandBytes),
            Ok(len) => Ok(Some(len)),
            Err(_) => Err(ProtocolError::BulkLength),
        }
    }

    /// The line at `at` without its CRLF, once it is whole; `at` moves behind it.
    fn line<'b>(
        &mut self,
        buf: &'b BytesMut,
        endless: ProtocolError,
    ) -> Result<Option<&'b [u8]>, ProtocolError> {
        let start = self.at;
        let from = start + self.searched;
        let Some(len) = buf[from..].iter().position(|&b| b == b'\r').map(|at| from + at - start) else {
            self.searched = buf.len() - start;
            return if self.searched > RESP_INLINE_BYTES_MAX { Err(endless) } else { Ok(None) };
        };
        if len > RESP_INLINE_BYTES_MAX {
            return Err(endless);
        }
        self.searched = len;
        if buf.len() < start + len + 2 {
            return Ok(None);
        }
        self.searched = 0;
        self.at = start + len + 2;
        Ok(Some(&buf[start..start + len]))
    }

    /// An inline command, once its line is whole; no arguments for an empty line.
    fn inline(&mut self, buf: &mut BytesMut) -> Result<Option<Vec<Bytes>>, ProtocolError> {
        let Some(len) = buf[self.searched..].iter().position(|&b| b == b'\n').map(|at| self.searched + at)
        else {
            self.searched = buf.len();
            let endless = self.searched > RESP_INLINE_BYTES_MAX;
            return if endless { Err(ProtocolError::InlineLine) } else { Ok(None) };
        };
        if len > RESP_INLINE_BYTES_MAX {
            return Err(ProtocolError::InlineLine);
        }
        self.searched = 0;
        let line = buf.split_to(len + 1);
        inline::split(&line[..len]).ok_or(ProtocolError::UnbalancedQuotes).map(Some)
    }

    fn finish(&mut self, buf: &mut BytesMut) -> Vec<Bytes> {
        let command = buf.split_to(self.at).freeze();
        self.at = 0;
        let args =
            self.args.iter().map(|&(start, len)| command.slice(start as usize..(start + len) as usize));
        let args = args.collect();
        self.args.clear();
        self.args.shrink_to(IDLE_ARGS_MAX);
        args
    }
}

/// A decimal number as Redis reads it: no blanks, no plus sign, no leading zeros.
fn number(digits: &[u8]) -> Option<i64> {
    let (negative, digits) = match digits {
        [b'-', rest @ ..] => (true, rest),
        all => (false, all),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] => {}
        _ => return None,
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))?;
    }
    if negative { Some(value) } else { value.checked_neg() }
}

/// What Redis allows before AUTH.
const STRANGER_ARGS_MAX: i64 = 10;
const STRANGER_BULK_BYTES_MAX: i64 = 16 << 10;
/// Room for argument positions that a parser keeps between commands.
const IDLE_ARGS_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn numbers_are_read_as_redis_reads_them() {
        let cases: [(&str, Option<i64>); 14] = [
            ("0", Some(0)),
            ("1", Some(1)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("03", None),
            (" 1", None),
            ("1x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(number(text.as_bytes()), expected, "{text:?}");
        }
    }
}
