//! Thousands of connections that follow the board.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Notify, task::JoinSet, time::timeout};

use crate::{Client, client::CONNECT_CONCURRENCY, servers::SLOTS};

/// Connections that follow the board, and the numbers that each has received. They are closed on drop.
#[derive(Debug)]
pub struct Followers {
    shared: Arc<FollowerState>,
    _tasks: JoinSet<()>,
}

/// The final state of the followers.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// The share of correct numbers on the boards of all followers.
    pub right: f64,
    /// Followers whose connection has ended.
    pub gone: usize,
}

#[derive(Debug)]
struct FollowerState {
    boards: Vec<[AtomicU32; SLOTS]>,
    /// The expected value, and the number of followers that show it.
    target: AtomicU32,
    arrived: AtomicUsize,
    gone: AtomicUsize,
    notify: Notify,
    bytes: AtomicU64,
    clock: Option<Clock>,
}

/// The send times of values, and their ages on arrival.
#[derive(Debug)]
struct Clock {
    start: Instant,
    /// For each slot, the values in order and their send times in microseconds since the start.
    sent: [Mutex<Vec<(u32, u32)>>; SLOTS],
    ages: Mutex<Histogram<u64>>,
}

impl Followers {
    /// Makes each client follow, and waits until each has received the board.
    ///
    /// `timed` measures the age of values from sending to arrival.
    ///
    /// # Errors
    /// Fails if a follower is refused.
    pub async fn connect(clients: Vec<Client>, timed: bool) -> io::Result<Self> {
        let clock = timed.then(|| Clock {
            start: Instant::now(),
            sent: std::array::from_fn(|_| Mutex::default()),
            ages: Mutex::new(
                Histogram::new_with_bounds(1, 120_000_000, 3).unwrap_or_else(|_| unreachable!()),
            ),
        });
        let shared = Arc::new(FollowerState {
            boards: clients.iter().map(|_| std::array::from_fn(|_| AtomicU32::new(0))).collect(),
            target: AtomicU32::new(u32::MAX),
            arrived: AtomicUsize::new(0),
            gone: AtomicUsize::new(0),
            notify: Notify::new(),
            bytes: AtomicU64::new(0),
            clock,
        });
        let mut tasks = JoinSet::new();
        let mut connecting: JoinSet<io::Result<(usize, TcpStream, Lines)>> = JoinSet::new();
        for (at, client) in clients.into_iter().enumerate() {
            if connecting.len() >= CONNECT_CONCURRENCY
                && let Some(connected) = connecting.join_next().await
            {
                follow(&mut tasks, &shared, connected??);
            }
            connecting.spawn(async move {
                let mut socket = client.connect().await?;
                socket.write_all(client.follow().as_bytes()).await?;
                let mut lines = Lines::default();
                // nchan sends nothing before the first event, not even a response head; the others send the board.
                let mut seen = client.sends_nothing_first();
                while !seen {
                    socket.readable().await?;
                    lines.read(&socket, |_, _| seen = true)?;
                }
                Ok((at, socket, lines))
            });
        }
        while let Some(connected) = connecting.join_next().await {
            follow(&mut tasks, &shared, connected??);
        }
        Ok(Self { shared, _tasks: tasks })
    }

    /// Sets the value that [`arrived`](Self::arrived) waits for; a newer one counts as well.
    pub fn expect(&self, value: u32) {
        self.shared.arrived.store(0, Relaxed);
        self.shared.target.store(value, Relaxed);
    }

    /// Waits until every follower shows the expected value.
    ///
    /// # Errors
    /// Fails after one minute.
    pub async fn arrived(&self) -> io::Result<()> {
        let all = self.shared.boards.len();
        let waiting = async {
            while self.shared.arrived.load(Relaxed) < all {
                self.shared.notify.notified().await;
            }
        };
        timeout(Duration::from_secs(60), waiting).await.map_err(|_| {
            io::Error::other(format!("{} of {all} followers have it", self.shared.arrived.load(Relaxed)))
        })
    }

    /// Waits until no bytes have arrived for a while.
    pub async fn quiet(&self) {
        let mut before = u64::MAX;
        loop {
            let bytes = self.shared.bytes.load(Relaxed);
            if bytes == before {
                return;
            }
            before = bytes;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Records that a value is being sent.
    pub fn sending(&self, slot: usize, value: u32) {
        if let Some(clock) = &self.shared.clock {
            clock.sending(slot, value);
        }
    }

    /// Returns a quantile of the ages of values on arrival, or `None` without measurements.
    #[must_use]
    pub fn age(&self, quantile: f64) -> Option<Duration> {
        let ages = self.shared.clock.as_ref()?.ages.lock();
        (!ages.is_empty()).then(|| Duration::from_micros(ages.value_at_quantile(quantile)))
    }

    /// Compares the boards of the followers with the expected one.
    #[must_use]
    pub fn seen(&self, truth: &[u32; SLOTS]) -> Seen {
        let boards = &self.shared.boards;
        let right = |board: &[AtomicU32; SLOTS]| {
            board.iter().zip(truth).filter(|(a, b)| a.load(Relaxed) == **b).count()
        };
        let right: usize = boards.iter().map(right).sum();
        Seen { right: right as f64 / (boards.len() * SLOTS) as f64, gone: self.shared.gone.load(Relaxed) }
    }

    /// The bytes that all followers have received.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Relaxed)
    }
}

fn follow(
    tasks: &mut JoinSet<()>,
    shared: &Arc<FollowerState>,
    (at, socket, mut lines): (usize, TcpStream, Lines),
) {
    let shared = Arc::clone(shared);
    tasks.spawn(async move {
        let mut newest = 0;
        loop {
            let read = match socket.readable().await {
                Ok(()) => lines.read(&socket, |slot, value| shared.shown(at, slot, value, &mut newest)),
                Err(error) => Err(error),
            };
            match read {
                Ok(bytes) => drop(shared.bytes.fetch_add(bytes as u64, Relaxed)),
                Err(_) => break,
            }
        }
        shared.gone.fetch_add(1, Relaxed);
    });
}

impl FollowerState {
    fn shown(&self, follower: usize, slot: usize, value: u32, newest: &mut u32) {
        let before = self.boards[follower][slot].swap(value, Relaxed);
        if let Some(clock) = &self.clock {
            clock.shown(slot, before, value);
        }
        let target = self.target.load(Relaxed);
        if *newest < target && value >= target && self.arrived.fetch_add(1, Relaxed) + 1 == self.boards.len()
        {
            self.notify.notify_one();
        }
        *newest = value.max(*newest);
    }
}

impl Clock {
    /// The interval between two measured values of a slot, in microseconds: the samples are spread evenly in time, and few
    /// values are all measured.
    const SAMPLE_INTERVAL_US: u32 = 50_000;

    fn now(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_micros()).unwrap_or(u32::MAX)
    }

    fn sending(&self, slot: usize, value: u32) {
        let (now, mut sent) = (self.now(), self.sent[slot].lock());
        if sent.last().is_none_or(|(_, last)| now - last >= Self::SAMPLE_INTERVAL_US) {
            sent.push((value, now));
        }
    }

    fn shown(&self, slot: usize, before: u32, value: u32) {
        let sent = self.sent[slot].lock();
        let first = sent.partition_point(|(sampled, _)| *sampled <= before);
        let shown = sent[first..].iter().take_while(|(sampled, _)| *sampled <= value);
        let mut shown = shown.peekable();
        if shown.peek().is_some() {
            let (now, mut ages) = (self.now(), self.ages.lock());
            shown.for_each(|(_, at)| ages.saturating_record(now.saturating_sub(*at).max(1).into()));
        }
    }
}

/// The text of a connection, of which only the numbers are parsed.
#[derive(Debug, Default)]
struct Lines {
    /// The incomplete last line.
    rest: Vec<u8>,
}

impl Lines {
    /// Reads the available bytes, and calls `shown` for each number in complete lines.
    fn read(&mut self, socket: &TcpStream, mut shown: impl FnMut(usize, u32)) -> io::Result<usize> {
        let mut buffer = [0; 8 * 1024];
        let read = match socket.try_read(&mut buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(error) => return Err(error),
        };
        let new = &buffer[..read];
        let Some(end) = new.iter().rposition(|byte| *byte == b'\n') else {
            self.rest.extend_from_slice(new);
            return Ok(read);
        };
        let (whole, rest) = new.split_at(end + 1);
        if self.rest.is_empty() {
            numbers(whole, &mut shown);
        } else {
            self.rest.extend_from_slice(whole);
            numbers(&self.rest, &mut shown);
            self.rest.clear();
        }
        if !rest.is_empty() {
            self.rest.extend_from_slice(rest);
        }
        Ok(read)
    }
}

/// Finds `"s1":23`.
fn numbers(mut text: &[u8], shown: &mut impl FnMut(usize, u32)) {
    while let Some(at) = memchr::memmem::find(text, b"\"s") {
        text = &text[at + 2..];
        let (slot, after) = number(text);
        if let (Some(slot), Some(after)) = (slot, after.strip_prefix(b"\":")) {
            let (value, after) = number(after);
            if let Some(value) = value {
                shown(slot as usize % SLOTS, value);
            }
            text = after;
        }
    }
}

fn number(text: &[u8]) -> (Option<u32>, &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let number = digits
        .iter()
        .fold(0_u32, |number, digit| number.wrapping_mul(10).wrapping_add(u32::from(digit - b'0')));
    ((!digits.is_empty()).then_some(number), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_as_old_as_what_shows_it_or_a_newer_one() {
        let clock = Clock {
            start: Instant::now() - Duration::from_secs(1),
            sent: std::array::from_fn(|_| Mutex::default()),
            ages: Mutex::new(Histogram::new_with_bounds(1, 120_000_000, 3).unwrap()),
        };
        *clock.sent[1].lock() = vec![(1, 0), (5, 500_000), (9, 900_000)];
        clock.shown(1, 0, 7);
        let seconds = |age: u64| age as f64 / 1e6;
        assert_eq!(clock.ages.lock().len(), 2, "1 and 5, both by 7");
        assert!(seconds(clock.ages.lock().max()) >= 0.999 && seconds(clock.ages.lock().min()) >= 0.499);
        clock.shown(1, 7, 8);
        assert_eq!(clock.ages.lock().len(), 2);
        clock.sending(1, 10);
        assert_eq!(clock.sent[1].lock().last().unwrap().0, 10, "50 ms after the last");
        clock.sending(1, 11);
        assert_eq!(clock.sent[1].lock().last().unwrap().0, 10, "too soon");
    }

    #[test]
    fn numbers_are_found_in_any_frame() {
        let mut found = Vec::new();
        let text =
            b"2f\r\nevent: x\ndata: signals {\"board\":{\"s3\":19,\"_v\":\"s1-2\",\"s15\":4294967295}}\n\n";
        numbers(text, &mut |slot, value| found.push((slot, value)));
        assert_eq!(found, [(3, 19), (15, u32::MAX)]);
    }
}
