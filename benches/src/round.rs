//! Runs a benchmark as the parent, which generates load, or as the child, which serves.

use std::{future::Future, io, process::ExitCode};

use crate::{Report, Server, cores, process};

/// The settings from the command line.
#[derive(Clone, Debug)]
pub struct BenchSettings {
    /// The number of interleaved rounds, 3 by default.
    pub rounds: usize,
    /// The number of followers, instead of the default of the benchmark.
    pub followers: Option<usize>,
    /// Prefixes of the short names of the servers to compare. Empty for all.
    pub only: Vec<String>,
}

impl BenchSettings {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut settings = Self { rounds: 3, followers: None, only: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let text = arguments.next().unwrap_or_default();
                text.parse().map_err(|_| format!("{argument} wants a number, not {text:?}"))
            };
            match argument.as_str() {
                "--rounds" => settings.rounds = number()?,
                "--followers" => settings.followers = Some(number()?),
                "--bench" => {}
                name if !name.starts_with('-') => settings.only.push(argument),
                _ => {
                    return Err(format!(
                        "{argument} is unknown; there are --rounds N, --followers N, and names of servers"
                    ));
                }
            }
        }
        Ok(settings)
    }

    /// Returns whether this server takes part.
    #[must_use]
    pub fn includes(&self, slug: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| slug.starts_with(only.as_str()))
    }
}

/// Measures each selected server once per round, so that other load on the machine affects all of them.
///
/// # Errors
/// Fails if a measurement fails.
#[expect(clippy::print_stdout, reason = "what a benchmark is for")]
pub async fn rounds<const N: usize, F: Future<Output = io::Result<[f64; N]>>>(
    settings: &BenchSettings,
    servers: &[Server],
    mut report: Report,
    measure: impl Fn(Server) -> F,
) -> io::Result<()> {
    let servers = servers.iter().filter(|server| settings.includes(server.slug()));
    let (missing, servers): (Vec<Server>, Vec<Server>) =
        servers.partition(|server| server.missing().is_some());
    for missing in missing.into_iter().filter_map(Server::missing) {
        println!("left out: {missing}");
    }
    for round in 1..=settings.rounds {
        for &server in &servers {
            let values = measure(server).await?;
            println!("round {round}, {:30} {values:.2?}", server.name());
            report.push(server.name(), &values);
        }
    }
    report.finish()
}

/// Runs a benchmark, or serves if the benchmark has started this process as a server.
pub fn bench<F>(run: impl FnOnce(BenchSettings) -> F) -> ExitCode
where
    F: Future<Output = io::Result<()>>,
{
    let mut arguments = std::env::args().skip(1).peekable();
    let outcome = if arguments.next_if(|first| first == "--serve").is_some() {
        process::serve(&arguments.next().unwrap_or_default())
    } else {
        BenchSettings::read(arguments).map_err(io::Error::other).and_then(|settings| load(run(settings)))
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program that failed")]
fn complain(error: &io::Error) {
    eprintln!("{error}");
}

fn load(run: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    cores::pin_load()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)
}
