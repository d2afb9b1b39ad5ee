//! Clients small enough to trust: HTTP/1.1 and RESP over blocking sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An HTTP answer.
pub(crate) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    /// A header that must be there.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers))
    }

    /// A header that may be there.
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The status, asserted, and the answer again.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{:?}\n{}", self.headers, self.text());
        self
    }

    /// The sentence of a problem with this status.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> String {
        let answer = self.is(status);
        assert_eq!(answer.header("content-type"), "application/problem+json");
        answer.json()["detail"].as_str().expect("a problem has a detail").to_owned()
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn http(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    try_http(at, method, path, headers, body).unwrap()
}

/// The same, for servers that may be gone.
pub(crate) fn try_http(
    at: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Answer> {
    let mut socket = TcpStream::connect(at)?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() || method == "PUT" {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    socket.write_all(head.as_bytes())?;
    socket.write_all(body)?;
    read_answer(&mut BufReader::new(socket), method)
}

fn read_answer(reader: &mut impl BufRead, method: &str) -> std::io::Result<Answer> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other(format!("no status line: {line:?}")))?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    if method == "HEAD" {
        return Ok(answer);
    }
    if answer.find("transfer-encoding") == Some("chunked") {
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let len = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
            let mut chunk = vec![0; len + 2];
            reader.read_exact(&mut chunk)?;
            answer.body.extend_from_slice(&chunk[..len]);
            if len == 0 {
                return Ok(answer);
            }
        }
    }
    reader.read_to_end(&mut answer.body)?;
    Ok(answer)
}

/// A RESP client that shows answers as redis-cli's protocol dump would: one line per element.
pub(crate) struct Redis {
    reader: BufReader<TcpStream>,
}

impl Redis {
    pub(crate) fn connect(at: SocketAddr) -> Redis {
        let socket = TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Redis { reader: BufReader::new(socket) }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).unwrap();
    }

    /// Sends a command of words without blanks, and shows its answer.
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.ask_raw(&words)
    }

    pub(crate) fn ask_raw(&mut self, words: &[&[u8]]) -> String {
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.send(&bytes);
        self.hear()
    }

    /// The next answer; `(closed)` once the server has hung up.
    pub(crate) fn hear(&mut self) -> String {
        let mut line = String::new();
        if self.reader.read_line(&mut line).unwrap_or(0) == 0 {
            return "(closed)".into();
        }
        let line = line.trim_end().to_owned();
        let (kind, rest) = line.split_at(1);
        match kind {
            "$" | "=" if rest == "-1" => "(nil)".into(),
            "$" | "=" => {
                let mut bytes = vec![0; rest.parse::<usize>().unwrap() + 2];
                self.reader.read_exact(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes[..bytes.len() - 2]).into_owned()
            }
            "_" => "(nil)".into(),
            "*" | "~" | ">" | "%" => {
                let count: usize = rest.parse().unwrap();
                let count = if kind == "%" { count * 2 } else { count };
                let parts: Vec<String> = (0..count).map(|_| self.hear()).collect();
                format!("[{}]", parts.join(" "))
            }
            _ => line,
        }
    }
}
