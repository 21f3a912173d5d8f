//! Measures the staleness that followers see while events arrive at the maximum rate: `cargo bench --bench overload`.

use std::{
    io,
    process::ExitCode,
    time::{Duration, Instant},
};

use faststate_benches::{
    BenchSettings, Child, Client, Column, Followers, Report, SLOTS, Server, bench, rounds,
};
use futures::future::try_join_all;

const COLUMNS: [Column; 6] = [
    Column { name: "staleness, 99th percentile", unit: "ms", digits: 0 },
    Column { name: "staleness, median", unit: "ms", digits: 0 },
    Column { name: "events per second", unit: "1/s", digits: 0 },
    Column { name: "numbers that followers show right in the end", unit: "%", digits: 2 },
    Column { name: "memory gained in the second half", unit: "MB", digits: 1 },
    Column { name: "followers cut off", unit: "", digits: 0 },
];

const LOAD_DURATION: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    bench(compare)
}

async fn compare(settings: BenchSettings) -> io::Result<()> {
    let followers = settings.followers.unwrap_or(10_000);
    let title = format!(
        "{followers} followers while events arrive as fast as they can for {LOAD_DURATION:?}, medians of {} interleaved rounds",
        settings.rounds
    );
    let report = Report::new("overload", title, &COLUMNS).charting(2);
    rounds(&settings, &Server::STREAMING, report, |server| measure(server, followers)).await
}

async fn measure(server: Server, count: usize) -> io::Result<[f64; 6]> {
    let child = Child::start(server)?;
    let followers = Followers::connect(Client::many(&child, count).await?, true).await?;
    let mut posters = Vec::new();
    for _ in 0..SLOTS {
        posters.push(Client::new(&child).await?.poster().await?);
    }
    let started = Instant::now();
    let watching = async {
        tokio::time::sleep(LOAD_DURATION / 2).await;
        let half = child.usage()?.memory;
        tokio::time::sleep(LOAD_DURATION / 2).await;
        io::Result::Ok((half, child.usage()?.memory))
    };
    // Each connection increments its own number.
    let sending = try_join_all(posters.into_iter().enumerate().map(|(slot, mut poster)| {
        let followers = &followers;
        async move {
            let mut value = 0;
            while started.elapsed() < LOAD_DURATION {
                value += 1;
                followers.sending(slot, value);
                poster.set(slot, value, true).await?;
            }
            io::Result::Ok(value)
        }
    }));
    let (sent, memory) = futures::future::try_join(sending, watching).await?;
    let sent_in = started.elapsed();
    followers.quiet().await;

    let truth: [u32; SLOTS] = std::array::from_fn(|slot| sent[slot]);
    let seen = followers.seen(&truth);
    let total: u32 = sent.iter().sum();
    let age = |quantile| followers.age(quantile).map_or(f64::NAN, |age| age.as_secs_f64() * 1e3);
    Ok([
        age(0.99),
        age(0.5),
        f64::from(total) / sent_in.as_secs_f64(),
        seen.right * 100.0,
        (memory.1 as f64 - memory.0 as f64) / 1e6,
        seen.gone as f64,
    ])
}
