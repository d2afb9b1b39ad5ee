//! `gramme top`: the cluster at work, on a screen that is made anew every second. It shows what the dashboard shows, to
//! whoever sits at a terminal; elsewhere it prints a line of JSON per look.
//!
//! One look is one `/v1/cluster/overview`, and every few seconds one `/v1/cluster/load` of each node. What a look means
//! is decided in [`view`], [`going`] and [`screen`]; here is only who is asked when.
//!
//! Invariant: a node that goes away ends nothing. Another is asked, and if none answers, the last answer stays, with
//! its age.

mod going;
mod json;
mod latency;
mod ring;
mod screen;
mod terminal;
mod view;

use crate::failure::Failure;
use crate::nodes::Nodes;
use crate::output::print_line;
use crate::status::load::Load;
use clap::Args;
use gramme_client::{Client, Error};
use gramme_server::time::iso;
use rustix::process::{Signal, getpid, kill_process};
use screen::{Shown, screen};
use serde_json::Value as Json;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use terminal::Terminal;
use tokio::signal::unix::{self, SignalKind, signal};
use tokio::time::{Instant, sleep};
use view::View;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  gramme top\n  gramme top --every 5\n  gramme top --json --count 2 | tail -1      rates and percentiles of one second\n\nCtrl-C ends it. A node that was silent when it began is marked with >."
)]
pub(crate) struct Top {
    /// Seconds from an answer to the next question
    #[arg(long, value_name = "SECS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=60))]
    every: u64,
    /// End after so many looks; on a terminal the last screen stays
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one line of JSON per look, as it does where there is no terminal
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    nodes: Nodes,
}

impl Top {
    pub(crate) fn run(self) -> Result<(), Failure> {
        self.nodes.clone().with_client(|client| async move {
            // Whoever reaches nobody at first is told so in a sentence, not on a screen.
            let first = ask(&client, true).await.map_err(Failure::from)?;
            let mut watch = Watch::begin(self.json)?;
            watch.take(Ok(first));
            watch.tell()?;
            let looks = self.count.unwrap_or(u64::MAX);
            for _ in 1..looks {
                let wait = sleep(Duration::from_secs(self.every));
                let Some(()) = watch.during(wait).await? else { return Ok(()) };
                let look = ask(&client, watch.is_load_due());
                let Some(answer) = watch.during(look).await? else { return Ok(()) };
                watch.take(answer);
                watch.tell()?;
            }
            watch.end()
        })
    }
}

/// An overview, and what the nodes' clients asked for lately if that was asked, too.
type Answer = (Json, Option<Load>);

async fn ask(client: &Client, with_load: bool) -> Result<Answer, Error> {
    let loads = async {
        let answers = if with_load { client.loads().await } else { return None };
        // A cluster of which no node tells its load is shown without.
        Load::of(answers).ok()
    };
    let (overview, load) = tokio::join!(client.overview(), loads);
    Ok((overview?, load))
}

/// What is shown, and where.
struct Watch {
    begun: Instant,
    /// None: lines of JSON.
    terminal: Option<Terminal>,
    signals: Signals,
    view: Option<View>,
    load: Option<Load>,
    /// When the load was last asked for, since the beginning.
    load_at: Duration,
    /// When the last answer came, by this machine's clock.
    answered_ms: u64,
    /// Why the last question had no answer.
    silent: Option<String>,
}

impl Watch {
    fn begin(json: bool) -> Result<Watch, Failure> {
        // Signals first: one that comes early must not leave the terminal on the other screen.
        let signals =
            Signals::new().map_err(|e| Failure::failed(format!("signals cannot be received: {e}")))?;
        let terminal = if json || !Terminal::is_there() { None } else { Some(Terminal::enter()?) };
        Ok(Watch {
            begun: Instant::now(),
            terminal,
            signals,
            view: None,
            load: None,
            load_at: Duration::ZERO,
            answered_ms: 0,
            silent: None,
        })
    }

    fn is_load_due(&self) -> bool {
        self.load.is_none() || self.begun.elapsed() >= self.load_at + LOAD_EVERY
    }

    fn take(&mut self, answer: Result<Answer, Error>) {
        let at = self.begun.elapsed();
        match answer {
            Ok((overview, load)) => {
                self.view = Some(View::next(self.view.as_ref(), overview, at));
                if load.is_some() {
                    (self.load, self.load_at) = (load, at);
                }
                (self.answered_ms, self.silent) = (wall_ms(), None);
            }
            Err(error) => self.silent = Some(error.to_string()),
        }
    }

    /// Tells of a look.
    fn tell(&mut self) -> Result<(), Failure> {
        if self.terminal.is_some() {
            return self.draw();
        }
        let line = match (&self.silent, &self.view) {
            (Some(why), _) => json::silent(why, wall_ms()),
            (None, Some(view)) => json::answered(view, self.load.as_ref(), self.answered_ms),
            (None, None) => return Ok(()),
        };
        print_line(&line.to_string())
    }

    fn draw(&self) -> Result<(), Failure> {
        let Some(terminal) = &self.terminal else { return Ok(()) };
        let size = Terminal::size();
        Ok(terminal.show(&self.lines(size), size)?)
    }

    fn lines(&self, size: terminal::Size) -> Vec<terminal::Line> {
        let Some(view) = &self.view else { return Vec::new() };
        let answered = iso(self.answered_ms);
        let shown = Shown {
            view,
            load: self.load.as_ref(),
            answered: answered.get(11..19).unwrap_or_default(),
            now: self.begun.elapsed(),
            silent: self.silent.as_deref(),
        };
        screen(&shown, size)
    }

    /// Waits for `what`, with ages and size kept true on the screen; none if whoever watches wants to end.
    async fn during<T>(&mut self, what: impl Future<Output = T>) -> Result<Option<T>, Failure> {
        let mut what = pin!(what);
        loop {
            tokio::select! {
                biased;
                order = self.signals.next() => match order {
                    Order::End => return Ok(None),
                    Order::Draw => self.draw()?,
                    Order::Suspend => self.suspend()?,
                },
                done = &mut what => return Ok(Some(done)),
                () = sleep(AGES_EVERY) => self.draw()?,
            }
        }
    }

    /// Stops as Ctrl-Z wants it, with the terminal given back until it goes on.
    fn suspend(&mut self) -> Result<(), Failure> {
        if let Some(terminal) = &mut self.terminal {
            terminal.leave()?;
        }
        kill_process(getpid(), Signal::STOP).map_err(std::io::Error::from)?;
        if let Some(terminal) = &mut self.terminal {
            terminal.enter_again()?;
        }
        self.draw()
    }

    /// After the last look: its screen stays, and if nobody answered it, that is a failure.
    fn end(mut self) -> Result<(), Failure> {
        if let Some(mut terminal) = self.terminal.take() {
            terminal.leave()?;
            let size = Terminal::size();
            for line in self.lines(terminal::Size { rows: usize::MAX, ..size }) {
                print_line(&line.fitted(size.columns, false))?;
            }
        }
        self.silent.map_or(Ok(()), |why| Err(Failure::failed(why)))
    }
}

/// What a signal asks for.
enum Order {
    End,
    Draw,
    Suspend,
}

struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: unix::Signal,
    resized: unix::Signal,
    stop: unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            resized: signal(SignalKind::window_change())?,
            stop: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
        })
    }

    async fn next(&mut self) -> Order {
        tokio::select! {
            _ = self.interrupt.recv() => Order::End,
            _ = self.terminate.recv() => Order::End,
            _ = self.hangup.recv() => Order::End,
            _ = self.resized.recv() => Order::Draw,
            _ = self.stop.recv() => Order::Suspend,
        }
    }
}

fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |span| span.as_millis() as u64)
}

/// Between two redraws while nothing happens.
const AGES_EVERY: Duration = Duration::from_secs(1);
/// The load is that of a minute or two, and every node gives one line per partition: it need not be asked for often.
const LOAD_EVERY: Duration = Duration::from_secs(5);
