//! Measures the cost of one change per follower: `cargo bench --bench fanout`.
//!
//! The first part has one frame per write: the next event waits until every follower has the last one. The second part has
//! 16 events outstanding.

use std::{io, process::ExitCode};

use faststate_benches::{
    BenchSettings, Child, Client, Column, Followers, Report, SLOTS, Server, bench, rounds,
};
use futures::future::try_join_all;

const COLUMNS: [Column; 5] = [
    Column { name: "CPU per delivery, one frame a write", unit: "us", digits: 2 },
    Column { name: "CPU per change and follower, 16 events at a time", unit: "us", digits: 2 },
    Column { name: "memory per idle stream", unit: "bytes", digits: 0 },
    Column { name: "numbers that followers show right in the end", unit: "%", digits: 2 },
    Column { name: "CPU for a follower to connect", unit: "us", digits: 1 },
];

/// The number of changes in the first part. The second part has four times as many.
const CHANGES: u32 = 40;

fn main() -> ExitCode {
    bench(|settings| async move {
        let sizes = settings.followers.map_or_else(|| vec![1_000, 10_000], |followers| vec![followers]);
        for followers in sizes {
            compare(&settings, followers).await?;
        }
        Ok(())
    })
}

async fn compare(settings: &BenchSettings, followers: usize) -> io::Result<()> {
    let name = if followers == 10_000 {
        "fanout-10000"
    } else if followers == 1_000 {
        "fanout-1000"
    } else {
        "fanout"
    };
    let title =
        format!("{followers} followers of one state, medians of {} interleaved rounds", settings.rounds);
    let report = Report::new(name, title, &COLUMNS).charting(3);
    rounds(settings, &Server::STREAMING, report, |server| measure(server, followers)).await
}

async fn measure(server: Server, count: usize) -> io::Result<[f64; 5]> {
    let child = Child::start(server)?;
    // Setup by the first connections is not attributed to a connection.
    drop(Followers::connect(Client::many(&child, 16).await?, false).await?);
    // The page that sets the cookie is not part of following.
    let clients = Client::many(&child, count).await?;
    let before = child.usage()?;
    let followers = Followers::connect(clients, false).await?;
    followers.quiet().await;
    let connected = child.usage()?;
    let mut poster = Client::new(&child).await?.poster().await?;
    let mut truth = [0; SLOTS];
    let mut value = 0;
    let mut next = || {
        value += 1;
        let slot = value as usize % SLOTS;
        truth[slot] = value;
        (slot, value)
    };

    // The first change reaches all followers, so that no warm-up is measured.
    let mut started = connected;
    for at in 0..=CHANGES {
        if at == 1 {
            started = child.usage()?;
        }
        let (slot, value) = next();
        followers.expect(value);
        poster.set(slot, value, true).await?;
        followers.arrived().await?;
    }
    let singly = child.usage()?;

    let mut posters = Vec::new();
    for _ in 0..SLOTS {
        posters.push(Client::new(&child).await?.poster().await?);
    }
    let burst = CHANGES * 4;
    let changes: Vec<(usize, u32)> = (0..burst).map(|_| next()).collect();
    let at_once = posters.into_iter().enumerate().map(|(first, mut poster)| {
        let own: Vec<_> = changes.iter().skip(first).step_by(SLOTS).copied().collect();
        async move {
            for (slot, value) in own {
                poster.set(slot, value, true).await?;
            }
            io::Result::Ok(())
        }
    });
    let bursting = child.usage()?;
    try_join_all(at_once).await?;
    followers.quiet().await;
    let ended = child.usage()?;

    let seen = followers.seen(&truth);
    if seen.gone > 0 {
        return Err(io::Error::other(format!("{}: {} followers were cut off", server.name(), seen.gone)));
    }
    let each = |from: std::time::Duration, to: std::time::Duration, times: f64| {
        (to - from).as_secs_f64() * 1e6 / times
    };
    let count = count as f64;
    Ok([
        each(started.cpu, singly.cpu, f64::from(CHANGES) * count),
        each(bursting.cpu, ended.cpu, f64::from(burst) * count),
        connected.memory.saturating_sub(before.memory) as f64 / count,
        seen.right * 100.0,
        each(before.cpu, connected.cpu, count),
    ])
}
