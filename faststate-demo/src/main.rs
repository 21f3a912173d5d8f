//! FastState's demo: a small site, live in every window.
//!
//! Each page has one file with its state, its events, its view and the page itself. From the simplest on, they are
//! [`counter`], [`home`] and its [`timer`]s, [`products`], [`chat`], [`profile`], [`admin`] over [`settings`],
//! [`status`], [`login`] over [`account`], and the [`auction`] of [`lots`] that [`purse`]s pay for. The adapters that
//! serve them are in [`web`].

mod account;
mod admin;
mod assets;
mod auction;
mod broadcast;
mod chat;
mod cli;
mod counter;
mod draft;
mod error;
mod home;
mod layout;
mod login;
mod lots;
mod not_found;
mod problem;
mod products;
mod profile;
mod purse;
mod redaction;
mod response;
mod settings;
mod source;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod throttle;
mod timer;
mod web;

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
    sync::Arc,
};

use clap::Parser;
use faststate::{
    BoxError, Broadcaster, Error, SessionId, Store,
    endpoint::{Bundle, BundleError, Endpoint, Secret},
    prelude::*,
    registry::MaintenanceGate,
};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;

use crate::{
    assets::ContentPolicy, cli::Options, redaction::Redaction, settings::Settings, store::StoreChoice,
};

#[tokio::main]
async fn main() -> ExitCode {
    let redaction = Redaction::of_process();
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(message) => {
            let text = redaction.apply(&message.render().to_string());
            let code = u8::try_from(message.exit_code()).unwrap_or(1);
            let written = match message.use_stderr() {
                true => io::stderr().write_all(text.as_bytes()),
                false => io::stdout().write_all(text.as_bytes()),
            };
            return if written.is_ok() { ExitCode::from(code) } else { ExitCode::FAILURE };
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(io::stdout().is_terminal()).init();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", redaction.apply(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<(), BoxError> {
    let (limits, hosts, readers) = (options.limits(), options.hosts(), options.readers());
    let secret = options.secret.unwrap_or_else(|| {
        tracing::info!("no --secret given: using a random one, so all sessions end with this process");
        Secret::random()
    });
    let bundle = match &options.datastar_js {
        Some(file) => {
            Bundle::file(file).map_err(|error| format!("{}: {}", file.display(), error::causes(&error)))?
        }
        None => bundle()?,
    };

    let nodes = match &options.broadcast {
        Some(_) if matches!(options.store, StoreChoice::Memory) => {
            return Err("--broadcast is for nodes that share a store, and memory: is not shared: choose another --store".into());
        }
        Some(address) => Some(address.open().await?),
        None => None,
    };
    let is_alone = nodes.is_none();
    // Identifies this process among the nodes that share a store.
    let node = options.node.unwrap_or_else(|| options.listen.to_string());
    let (watched, watching) = watch::channel(0);
    let registry = registry(options.store.open().await?, nodes, &node, watched)?;
    if is_alone {
        // The store may list visitors of the previous process, whose streams have ended.
        registry.global::<chat::Chat>()?.send(chat::AudienceChanged::default()).await?;
    }

    if let Err(error) = auction::open_new_lots(&registry).await {
        tracing::warn!(%error, "lots without an end were not opened: an administrator can open them");
    }

    let policy = ContentPolicy::new(&bundle);
    let mut site =
        site(registry)?.secret(secret).secure_cookies(options.secure_cookies).limits(limits).datastar(bundle);
    if let Some(hosts) = hosts {
        site = site.hosts(hosts);
    }
    if options.inspector {
        site = site.inspector(readers.clone());
    }
    if options.metrics {
        site = site.metrics(readers);
    }
    tokio::spawn(status::keep(node, status::of(site.registry())?, site.clone(), watching));
    let served = options.adapter.serve(site, policy, options.listen).await;
    served.map_err(|error| format!("cannot listen on {}: {error}", options.listen).into())
}

/// The endpoint over the registry, with the maintenance gate and with users identified by their session.
fn site(registry: Arc<StateRegistry>) -> Result<Endpoint, Error> {
    let settings = registry.global::<Settings>()?;
    let registry: Arc<dyn Registry> = registry;
    let known = Arc::clone(&registry);
    let gate = MaintenanceGate::new(registry, "maintenance is going on: nothing can be changed right now")
        .when(settings, Settings::refuse);
    Ok(Endpoint::new(Arc::new(gate)).problem_view(problem::ProblemRegion).identity(move |head| {
        let session = head.extensions.get::<SessionId>().copied();
        account::identify(Arc::clone(&known), session, account::hinted(head))
    }))
}

/// The registry with the states, events and views of all pages.
fn registry(
    store: Arc<dyn Store>,
    nodes: Option<Arc<dyn Broadcaster>>,
    node: &str,
    watched: watch::Sender<usize>,
) -> Result<Arc<StateRegistry>, BoxError> {
    let mut builder = StateRegistry::builder().store(store).node(node);
    if let Some(nodes) = nodes {
        builder = builder.broadcaster(nodes);
    }
    builder = home::register(builder);
    builder = timer::register(builder);
    builder = counter::register(builder);
    builder = products::register(builder);
    builder = chat::register(builder);
    builder = profile::register(builder);
    builder = auction::register(builder);
    builder = purse::register(builder);
    builder = settings::register(builder);
    builder = status::register(builder, watched);
    builder = account::register(builder);
    Ok(builder.build()?)
}

/// The Datastar bundle that the build script embedded.
#[cfg(datastar_embedded)]
fn bundle() -> Result<Bundle, BundleError> {
    Bundle::bytes(include_bytes!(concat!(env!("OUT_DIR"), "/datastar.js")).as_slice())
}

/// Without an embedded bundle, browsers fetch it from the CDN; the build script has warned of it.
#[cfg(not(datastar_embedded))]
fn bundle() -> Result<Bundle, BundleError> {
    Ok(Bundle::cdn())
}
