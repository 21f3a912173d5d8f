//! The unfinished messages, timers and jobs of the inspected application, and their retry and removal.

use std::{
    fmt::Write as _,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use faststate_core::{
    Context, Elements, Event, Handle, Key, ReactiveState, Registry, Rejection, View,
    registry::{MessageAction, UnfinishedMessage},
};
use http::Method;
use serde::{Deserialize, Serialize};

use crate::endpoint::{problem::escaped, route::INSPECTOR_MESSAGE};

/// The number of messages in the list.
const MAX_ROWS: usize = 100;
/// The interval at which the list is loaded while a page shows it.
const INTERVAL: Duration = Duration::from_secs(1);

/// The inspected registry.
pub(super) struct Inspected(pub(super) Weak<dyn Registry>);

/// The unfinished messages, timers and jobs, those of the oldest instance first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct UnfinishedList {
    rows: Vec<MessageRow>,
}

/// One message, timer or job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MessageRow {
    id: String,
    /// The text of the sender's key. It is not sent to the browser, because a session's key gives access to the session.
    sender: String,
    shown_sender: String,
    kind: String,
    event: String,
    attempts: u32,
    /// Seconds since it was requested.
    age: u64,
    parked: Option<String>,
}

#[derive(Serialize)]
struct MessageSignals {
    count: usize,
}

impl ReactiveState for UnfinishedList {
    const NAME: &'static str = "messages";

    fn signals(&self) -> impl Serialize {
        MessageSignals { count: self.rows.len() }
    }
}

impl MessageRow {
    fn of(message: &UnfinishedMessage) -> Self {
        let UnfinishedMessage { sender, id, kind, event, requested, attempts, parked, .. } = message;
        let shown = |text: &str| text.replace("Key(", "").replace(')', "");
        Self {
            id: id.clone(),
            sender: sender.to_string(),
            shown_sender: shown(&format!("{sender:?}")),
            kind: shown(kind),
            event: event.clone(),
            attempts: *attempts,
            age: SystemTime::now().duration_since(*requested).unwrap_or_default().as_secs(),
            parked: parked.clone(),
        }
    }
}

/// Retries or drops a message, timer or job.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ResolveMessage {
    id: String,
    drop: bool,
}

impl Event for ResolveMessage {
    type State = UnfinishedList;
    const NAME: &'static str = "resolve";
    const METHOD: Method = Method::POST;
    const PATH: Option<&'static str> = Some(INSPECTOR_MESSAGE);

    fn apply(
        &self,
        list: &mut UnfinishedList,
        context: &mut Context<UnfinishedList>,
    ) -> Result<(), Rejection> {
        let row = list.rows.iter().find(|row| row.id == self.id);
        let sender = row.and_then(|row| row.sender.parse::<Key>().ok());
        let Some(sender) = sender else { return Err(Rejection::not_found("the message is finished")) };
        let (id, action) =
            (self.id.clone(), if self.drop { MessageAction::Drop } else { MessageAction::Retry });
        context.after(move |list| async move {
            let Some(inspected) = list.resource::<Inspected>().and_then(|inspected| inspected.0.upgrade())
            else {
                return;
            };
            if let Err(error) = inspected.engine().resolve_message(&sender, &id, action).await {
                tracing::warn!(%error, id, "a message was not retried or dropped");
            }
            load(&list, &*inspected).await;
        });
        Ok(())
    }
}

/// The list as a table.
#[derive(Debug)]
pub(super) struct UnfinishedTable;

impl View for UnfinishedTable {
    type State = UnfinishedList;
    const NAME: &'static str = "table";

    fn render(&self, list: &UnfinishedList) -> Elements {
        let mut html =
            String::from("<ol id=\"unfinished\" aria-label=\"Unfinished messages, timers and jobs\">");
        for row in &list.rows {
            let MessageRow { id, shown_sender, kind, event, attempts, age, parked, .. } = row;
            let (class, reason) = match parked {
                Some(reason) => ("failed", escaped(reason)),
                None => ("taken-over", String::new()),
            };
            let state = if parked.is_some() { "parked" } else { "waiting" };
            let (sender, kind, event) = (escaped(shown_sender), escaped(kind), escaped(event));
            // Writing to a string cannot fail.
            let _ = write!(
                html,
                "<li id=\"m{id}\" class=\"{class}\"><p class=\"what\"><code>{sender}</code> {kind} <code>{event}</code>\
                 <span class=\"outcome\">{state}</span><span class=\"version\">{age} s, {attempts} failed</span></p>\
                 <p class=\"reason\">{reason}</p><p class=\"who\">"
            );
            for (drop, label) in [(false, "Retry"), (true, "Drop")] {
                if drop || parked.is_some() {
                    let action = ResolveMessage { id: id.clone(), drop }.action();
                    let _ = write!(
                        html,
                        "<button type=\"button\" aria-label=\"{label} {kind}\" data-on:click=\"{action}\">{label}</button> "
                    );
                }
            }
            html.push_str("</p></li>");
        }
        html.push_str("</ol>");
        Elements::outer(html)
    }
}

/// Loads the list while a page shows it, for as long as the inspected registry lives.
pub(super) async fn keep_loading(list: Handle<UnfinishedList>, inspected: Arc<Inspected>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(inspected) = inspected.0.upgrade() else { return };
        if list.followers() > 0 {
            load(&list, &*inspected).await;
        }
    }
}

/// Loads the list.
pub(super) async fn load(list: &Handle<UnfinishedList>, inspected: &dyn Registry) {
    let loaded = match inspected.engine().unfinished_messages(MAX_ROWS).await {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::debug!(%error, "the unfinished messages were not listed");
            return;
        }
    };
    let rows: Vec<_> = loaded.iter().map(MessageRow::of).collect();
    let updated = list
        .update(move |list| {
            list.rows.clone_from(&rows);
            Ok(())
        })
        .await;
    if let Err(error) = updated {
        tracing::warn!(%error, "the inspector could not show the unfinished messages");
    }
}
