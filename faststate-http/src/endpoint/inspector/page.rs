//! The inspector's page.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use faststate_core::{Error, Event as _, Handle, Viewer};
use http::{HeaderValue, Response, StatusCode, header, request::Parts};
use sha2::{Digest as _, Sha256};

use super::{
    log::{ClearLog, EventList, InspectorLog},
    messages::{UnfinishedList, UnfinishedTable, load},
};
use crate::endpoint::{
    Endpoint,
    problem::escaped,
    reply::{self, ReplyBody},
    route::{INSPECTOR_STREAM, STREAM},
};

const STYLE: &str = include_str!("style.css");

/// Renders the page with the events so far.
pub(super) async fn render(
    inspected: &Endpoint,
    inspector: &Endpoint,
    parts: &Parts,
) -> Result<Response<ReplyBody>, Error> {
    let page = inspector.page(parts).await?;
    page.follow::<InspectorLog>().await?;
    let events = page.view::<EventList>().await?;
    let list = Handle::of(Arc::clone(inspector.registry()), &Viewer::application(), None)?;
    load(&list, &**inspected.registry()).await;
    page.follow::<UnfinishedList>().await?;
    let messages = page.view::<UnfinishedTable>().await?;
    let node = escaped(&inspected.registry().health().await.node);
    let (signals, clear) = (page.signals(), ClearLog {}.action());
    let follow = page.follow_action().replace(STREAM, INSPECTOR_STREAM);
    let (script, events, messages) = (inspected.settings().bundle.script(), events.html(), messages.html());
    let html = format!(
        r#"<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Inspector · {node}</title>
<meta name="viewport" content="width=device-width,initial-scale=1"><link rel="icon" href="data:,">
<style>{STYLE}</style>{script}</head>
<body data-signals="{signals}" data-signals__ifmissing="{{_find: '', _only: false}}" data-init="{follow}">
<header><h1>Inspector</h1><p>node <code>{node}</code></p>
<p role="status"><b data-text="$log.seen"></b> events <span data-show="$log.missed"><b data-text="$log.missed"></b> missed</span></p>
<form data-on:submit="0"><label>Find <input type="search" autocomplete="off" data-bind="_find"></label>
<label><input type="checkbox" data-bind="_only"> refused only</label>
<button type="button" data-on:click="{clear}">Clear</button></form></header>
<main><section data-show="$messages.count"><h2>Unfinished messages, timers and jobs</h2>{messages}</section>
{events}<p class="nothing" data-show="!$log.kept">Nothing yet. Events of the application appear here live.</p></main>
</body></html>"#
    );
    let mut response = reply::answer(StatusCode::OK, "text/html; charset=utf-8", ReplyBody::full(html));
    let style = STANDARD.encode(Sha256::digest(STYLE));
    let source = inspected.settings().bundle.source();
    // Datastar compiles its expressions to functions, which needs `unsafe-eval`.
    let policy = format!(
        "default-src 'none'; script-src {source} 'unsafe-eval'; style-src 'sha256-{style}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    page.mark(response.headers_mut());
    Ok(response)
}
