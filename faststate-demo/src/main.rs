//! FastState's demo: a playground, a counter and a chat, live in every window.
//!
//! One file a page, each with its state, its events, its view and its handler, from the simplest on:
//! [`home`], [`counter`], [`chat`].

mod assets;
mod broadcast;
mod chat;
mod cli;
mod counter;
mod home;
mod layout;
mod not_found;
mod problem;
mod store;

use std::{
    io::{self, IsTerminal as _},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use faststate::{
    BoxError, Broadcaster, Store,
    endpoint::{Bundle, BundleError, Secret},
    prelude::*,
    salvo::FastState,
};
use salvo::prelude::*;
use tracing_subscriber::EnvFilter;

use crate::{assets::Policy, cli::Options};

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    // Salvo says where it listens, and so do we.
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,salvo_core=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stdout().is_terminal()).init();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let limits = options.limits();
    let secret = options.secret.unwrap_or_else(|| {
        tracing::info!("no --secret: a random one, and all sessions end with this process");
        Secret::random()
    });
    let bundle = match &options.datastar_js {
        Some(file) => {
            Bundle::file(file).map_err(|error| format!("{}: {}", file.display(), causes(&error)))?
        }
        None => bundle()?,
    };

    let pages = Router::with_filter_fn(|request, _| request.method().is_safe())
        .hoop(Policy::new(&bundle))
        .goal(home::show)
        .push(Router::with_path("counter").goal(counter::show))
        .push(Router::with_path("chat").goal(chat::show))
        .push(Router::with_path("style.css").goal(assets::style))
        .push(Router::with_path("favicon.svg").goal(assets::icon))
        .push(Router::with_path("{*+path}").goal(not_found::show));

    let nodes = match &options.broadcast {
        Some(_) if matches!(options.store, store::Address::Memory) => {
            return Err("--broadcast is for nodes that share a store: memory: is not shared".into());
        }
        Some(address) => Some(address.open().await?),
        None => None,
    };
    FastState::new(registry(options.store.open().await?, nodes, options.node)?)
        .secret(secret)
        .limits(limits)
        .datastar(bundle)
        .problem_view(problem::Notice)
        .serve(options.listen, pages)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", options.listen).into())
}

/// Everything that there is to see, and everything that can happen to it.
fn registry(
    store: Arc<dyn Store>,
    nodes: Option<Arc<dyn Broadcaster>>,
    name: Option<String>,
) -> Result<Arc<StateRegistry>, BoxError> {
    let everybody = || StateConfig::global().access(Access::public()).persist();
    let mut builder = StateRegistry::builder().store(store);
    // A visitor's own state is kept in memory, unless the next request may come to another node.
    let mut visitors = StateConfig::session();
    if let Some(nodes) = nodes {
        builder = builder.broadcaster(nodes);
        visitors = visitors.persist();
    }
    if let Some(name) = name {
        builder = builder.node(name);
    }
    let registry = builder
        .state::<home::Playground>(visitors, |state| {
            state
                .event::<home::Increment>()
                .event::<home::Decrement>()
                .event::<home::Reset>()
                .event::<home::SetText>()
                .event::<home::StartTicking>()
        })
        .state::<counter::Counter>(everybody(), |state| {
            state.event::<counter::Increment>().event::<counter::Decrement>().event::<counter::Reset>()
        })
        .state::<chat::Chat>(everybody(), |state| {
            state
                .event::<chat::SendMessage>()
                .view(chat::Messages)
                .presence(|present| chat::PresenceChanged { present })
        })
        .build()?;
    Ok(registry)
}

/// The bundle that the build script found.
#[cfg(datastar_embedded)]
fn bundle() -> Result<Bundle, BundleError> {
    Bundle::embedded(include_bytes!(concat!(env!("OUT_DIR"), "/datastar.js")))
}

/// The build script found none, and said so: browsers fetch it from the CDN.
#[cfg(not(datastar_embedded))]
fn bundle() -> Result<Bundle, BundleError> {
    Ok(Bundle::cdn())
}

/// An error and what led to it, in one line.
fn causes(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", causes(cause)))
}
