//! A node that says what a test tells it to, over real sockets, and remembers what it was asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What the node does with one request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Answers.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Reads the request and hangs up.
    HangUp,
    /// Reads the request and says nothing for as long as the client cares to wait.
    Silence,
    /// Begins a chunked answer with this and hangs up.
    Half(String),
    /// Does the other thing when it is told to.
    Held(Arc<Mutex<Receiver<()>>>, Box<Reply>),
}

impl Reply {
    /// `reply`, once something was sent.
    pub(crate) fn held(reply: Reply) -> (Sender<()>, Reply) {
        let (release, held) = channel();
        (release, Reply::Held(Arc::new(Mutex::new(held)), Box::new(reply)))
    }
}

/// One request as it arrived; header names in lower case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

pub(crate) struct Node {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Node {
    /// Follows `replies`, one a request; the last one is repeated.
    pub(crate) fn that(replies: impl IntoIterator<Item = Reply>) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let script = Arc::new(Mutex::new(replies.into_iter().collect::<VecDeque<_>>()));
        let log = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, script) = (log.clone(), script.clone());
                std::thread::spawn(move || serve(stream, &log, &script));
            }
        });
        Node { url, seen }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// Two addresses at which nobody listens: port 1 is the system's, and unused for decades.
pub(crate) fn nobody() -> [String; 2] {
    ["http://127.0.0.1:1".to_string(), "http://127.0.0.2:1".to_string()]
}

fn serve(stream: TcpStream, log: &Mutex<Vec<Seen>>, script: &Mutex<VecDeque<Reply>>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut writer = stream;
    loop {
        let seen = read_request(&mut reader)?;
        log.lock().unwrap().push(seen);
        let mut reply = {
            let mut script = script.lock().unwrap();
            if script.len() > 1 { script.pop_front()? } else { script.front()?.clone() }
        };
        while let Reply::Held(held, then) = reply {
            held.lock().unwrap().recv().ok()?;
            reply = *then;
        }
        match reply {
            Reply::HangUp | Reply::Held(..) => return None,
            Reply::Silence => {
                // The client's end of the connection, when it gives up, ends this read.
                let _ = reader.read(&mut [0; 1]);
                return None;
            }
            Reply::Half(text) => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                write!(writer, "{head}{:x}\r\n{text}\r\n", text.len()).ok()?;
                return None;
            }
            Reply::Say(status, headers, body) => {
                write!(writer, "HTTP/1.1 {status} Said\r\ncontent-length: {}\r\n", body.len()).ok()?;
                for (name, value) in headers {
                    write!(writer, "{name}: {value}\r\n").ok()?;
                }
                write!(writer, "\r\n{body}").ok()?;
            }
        }
    }
}

fn read_request(reader: &mut impl BufRead) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|&n| n > 0)?;
    let mut words = line.split_whitespace();
    let mut seen = Seen { method: words.next()?.into(), path: words.next()?.into(), ..Seen::default() };
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        match line.trim_end().split_once(": ") {
            Some((name, value)) => seen.headers.push((name.to_lowercase(), value.to_string())),
            None => break,
        }
    }
    let length = seen.header("content-length").map_or(0, |n| n.parse().unwrap());
    seen.body = vec![0; length];
    reader.read_exact(&mut seen.body).ok()?;
    Some(seen)
}
