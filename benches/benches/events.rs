//! Measures the cost of an event without followers: `cargo bench --bench events`.

use std::{io, process::ExitCode};

use faststate_benches::{BenchSettings, Child, Client, Column, Report, SLOTS, Server, bench, rounds};
use futures::future::try_join_all;

const COLUMNS: [Column; 1] = [Column { name: "CPU per event", unit: "us", digits: 2 }];

const CONNECTIONS: u32 = 32;
/// The number of events per connection. The first ones are not measured.
const EVENTS: u32 = 4_000;
const WARM_UP: u32 = 200;

fn main() -> ExitCode {
    bench(compare)
}

async fn compare(settings: BenchSettings) -> io::Result<()> {
    // Keeps the load's core awake. On one machine the server would have to wake it, unlike over a network, and a slower
    // server would do so more often.
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let title = format!("Events that nobody follows, medians of {} interleaved rounds", settings.rounds);
    let report = Report::new("events", title, &COLUMNS);
    let done = rounds(&settings, &Server::ANSWERING, report, measure).await;
    awake.abort();
    done
}

/// Microseconds of CPU time per event.
async fn measure(server: Server) -> io::Result<[f64; 1]> {
    let child = Child::start(server)?;
    let mut posters = Vec::new();
    for _ in 0..CONNECTIONS {
        posters.push(Client::new(&child).await?.poster().await?);
    }
    let mut before = child.usage()?;
    for (from, to) in [(0, WARM_UP), (WARM_UP, EVENTS)] {
        before = child.usage()?;
        let all = posters.iter_mut().zip(0_u32..).map(|(poster, at)| async move {
            for event in from..to {
                poster.set(at as usize % SLOTS, event * CONNECTIONS + at, false).await?;
            }
            io::Result::Ok(())
        });
        try_join_all(all).await?;
    }
    let used = child.usage()?.cpu - before.cpu;
    Ok([used.as_secs_f64() * 1e6 / f64::from(CONNECTIONS * (EVENTS - WARM_UP))])
}
