//! The chat: one room for all visitors, whose messages are a view that follows the state.

use std::collections::VecDeque;

use askama::Template;
use faststate::{
    BoxError, Reply,
    endpoint::Page,
    prelude::*,
    registry::{Audience, RegistryBuilder},
};
use serde::{Deserialize, Serialize};

use crate::{
    account::USERS,
    layout::Layout,
    text::{is_visible, visible},
    timer::milliseconds,
};

/// Number of messages that the room keeps.
const HISTORY: usize = 100;
const MAX_NAME_CHARS: usize = 30;
const MAX_MESSAGE_CHARS: usize = 500;

/// The room.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Chat {
    messages: VecDeque<Message>,
    /// Number of messages ever sent, which is the number of the next one.
    sent: u64,
    /// The visitors of all nodes.
    #[serde(default)]
    audience: Audience,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    number: u64,
    /// Milliseconds since 1970, by the server's clock.
    at: u64,
    username: String,
    text: String,
    /// Whether the sender was signed in under this name.
    #[serde(default)]
    member: bool,
}

impl Message {
    /// The time of day in UTC, which the page replaces by the reader's local time.
    fn clock(&self) -> String {
        let minutes = self.at / 60_000;
        format!("{:02}:{:02}", minutes / 60 % 24, minutes % 60)
    }
}

#[derive(Serialize)]
struct ChatSignals {
    sent: u64,
    present: usize,
    names: String,
}

impl ReactiveState for Chat {
    const NAME: &'static str = "chat";

    /// The messages are a [`View`]. As a signal, the whole list would be sent with each message.
    fn signals(&self) -> impl Serialize {
        ChatSignals { sent: self.sent, present: self.present(), names: self.names() }
    }
}

impl Chat {
    fn present(&self) -> usize {
        self.audience.users.len() + self.audience.guests
    }

    /// The visitors, as a readable list.
    fn names(&self) -> String {
        let guests = match self.audience.guests {
            0 => None,
            1 => Some("1 guest".to_owned()),
            guests => Some(format!("{guests} guests")),
        };
        self.audience.users.iter().cloned().chain(guests).collect::<Vec<_>>().join(", ")
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Chat>(StateConfig::global().access(Access::public()).persist(), |state| {
        state.event::<SendMessage>().view(ChatMessages).audience(|audience| AudienceChanged { audience })
    })
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SendMessage {
    username: String,
    message: String,
}

impl Event for SendMessage {
    type State = Chat;
    const NAME: &'static str = "send_message";

    fn apply(&self, chat: &mut Chat, context: &mut Context<Chat>) -> Result<(), Rejection> {
        // A user who is signed in needs no name, and no other visitor can use a user's name.
        let signed_in = context.viewer().user().map(str::to_owned);
        let (username, text) = (signed_in.as_deref().unwrap_or(self.username.trim()), self.message.trim());
        let mut refused = Rejection::invalid("the message was not sent");
        if signed_in.is_none() && USERS.iter().any(|user| user.name.eq_ignore_ascii_case(&visible(username)))
        {
            refused = refused.and("username", "this name belongs to a user: sign in to use it");
        } else if !is_visible(username) || username.chars().count() > MAX_NAME_CHARS {
            refused = refused.and("username", "1 to 30 characters");
        }
        if !is_visible(text) || text.chars().count() > MAX_MESSAGE_CHARS {
            refused = refused.and("message", "1 to 500 characters");
        }
        if refused.fields().next().is_some() {
            return Err(refused);
        }

        if chat.messages.len() == HISTORY {
            chat.messages.pop_front();
        }
        chat.messages.push_back(Message {
            number: chat.sent,
            at: milliseconds(context.now()),
            username: username.to_owned(),
            text: text.to_owned(),
            member: signed_in.is_some(),
        });
        chat.sent += 1;
        context.stream(clear_draft);
        Ok(())
    }
}

#[derive(Serialize)]
struct EmptyDraft {
    draft: &'static str,
}

/// Empties the draft of the sender, after an accepted message only.
async fn clear_draft(_: Handle<Chat>, reply: Reply) {
    // Fails only if the sender has closed the page.
    let _ = reply.signals(&EmptyDraft { draft: "" }).await;
}

/// The visitors have changed. The engine sends this event; no request can, because it has no route.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct AudienceChanged {
    audience: Audience,
}

impl Event for AudienceChanged {
    type State = Chat;
    const NAME: &'static str = "audience_changed";

    fn apply(&self, chat: &mut Chat, _: &mut Context<Chat>) -> Result<(), Rejection> {
        chat.audience.clone_from(&self.audience);
        Ok(())
    }
}

/// The list of messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChatMessages;

impl View for ChatMessages {
    type State = Chat;
    const NAME: &'static str = "messages";

    fn render(&self, chat: &Chat) -> Elements {
        Elements::outer(ChatMessageList { messages: &chat.messages }.to_string())
    }

    /// Removes the oldest messages and appends the new ones, so that a message costs only its own HTML, however long
    /// the list is.
    fn update(&self, before: &Chat, after: &Chat) -> Vec<Elements> {
        // If the last known message is gone, the room has started over or moved on by more than it shows.
        if before.messages.back().is_some_and(|last| !after.messages.contains(last)) {
            return vec![self.render(after)];
        }
        let oldest = after.messages.front().map_or(after.sent, |message| message.number);
        let gone = before.messages.iter().take_while(|message| message.number < oldest);
        let new = after.messages.iter().skip_while(|message| message.number < before.sent);
        gone.map(|message| Elements::remove(format!("#message-{}", message.number)))
            .chain(new.map(|message| {
                let id = format!("message-{}", message.number);
                Elements::append("#messages", id, MessageItem { message }.to_string())
            }))
            .collect()
    }
}

#[derive(Template)]
#[template(path = "messages.html")]
struct ChatMessageList<'a> {
    messages: &'a VecDeque<Message>,
}

#[derive(Template)]
#[template(path = "message.html")]
struct MessageItem<'a> {
    message: &'a Message,
}

#[derive(Template)]
#[template(path = "chat.html")]
struct ChatPage<'a> {
    layout: Layout,
    chat: &'a Chat,
    messages: &'a Elements,
}

impl ChatPage<'_> {
    fn send(&self) -> Action {
        SendMessage { username: String::new(), message: String::new() }
            .action()
            .bind("username", "_username")
            .bind("message", "draft")
    }
}

pub(crate) async fn show(page: &Page) -> Result<String, BoxError> {
    let (chat, messages) = (page.follow::<Chat>().await?, page.view::<ChatMessages>().await?);
    let layout = Layout::of(page, "/chat", "chat.rs").await?;
    Ok(ChatPage { layout, chat: &chat, messages: &messages }.render()?)
}

#[cfg(test)]
mod tests;
