//! How a benchmark is run: as the parent that puts load on, or as the child that serves.

use std::{future::Future, io, process::ExitCode};

use crate::process;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many interleaved rounds: 3.
    pub rounds: usize,
    /// How many followers, instead of what the benchmark has.
    pub followers: Option<usize>,
    /// The servers to compare, by the beginning of their short names; all if there is none.
    pub only: Vec<String>,
}

impl Settings {
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

    /// Whether this server takes part.
    #[must_use]
    pub fn includes(&self, slug: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| slug.starts_with(only.as_str()))
    }
}

/// Runs a benchmark, or serves if the benchmark has started this process for that.
pub fn bench<F>(run: impl FnOnce(Settings) -> F) -> ExitCode
where
    F: Future<Output = io::Result<()>>,
{
    let mut arguments = std::env::args().skip(1).peekable();
    let outcome = if arguments.next_if(|first| first == "--serve").is_some() {
        process::serve(&arguments.next().unwrap_or_default())
    } else {
        Settings::read(arguments).map_err(io::Error::other).and_then(|settings| load(run(settings)))
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
    process::pin_load()?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run)
}
