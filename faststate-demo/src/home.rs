//! Home: the playground, of which every browser session has its own.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use askama::Template;
use faststate::{BoxError, Error, SessionId, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};
use tokio::time;

use crate::{layout::Layout, source, timer};

const MAX_NUMBER: u64 = 1_000_000;
const MAX_TEXT_CHARS: usize = 200;
const TICKS: u8 = 10;
const TICK: Duration = Duration::from_millis(400);

/// The playground of one session.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Playground {
    number: i64,
    text: String,
    /// 0 before the ticker was started, [`TICKS`] when it is done.
    ticks: u8,
}

impl ReactiveState for Playground {
    const NAME: &'static str = "playground";
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Playground>(StateConfig::session().persist(), |state| {
        state
            .event::<SetNumber>()
            .event::<IncrementNumber>()
            .event::<DecrementNumber>()
            .event::<SetText>()
            .event::<StartTicking>()
            .event::<CancelTicking>()
            .event::<ResetPlayground>()
    })
}

/// Sets the number. The page does not send an empty field, and other clients get an error for it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetNumber {
    number: i64,
}

impl Event for SetNumber {
    type State = Playground;
    const NAME: &'static str = "set_number";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        if self.number.unsigned_abs() > MAX_NUMBER {
            return Err(Rejection::invalid("at most a million, above or below zero").field("number"));
        }
        playground.number = self.number;
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IncrementNumber {}

impl Event for IncrementNumber {
    type State = Playground;
    const NAME: &'static str = "increment";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        playground.number = (playground.number + 1).min(MAX_NUMBER.cast_signed());
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DecrementNumber {}

impl Event for DecrementNumber {
    type State = Playground;
    const NAME: &'static str = "decrement";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        playground.number = (playground.number - 1).max(-MAX_NUMBER.cast_signed());
        Ok(())
    }
}

/// Resets the whole playground.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ResetPlayground {}

impl Event for ResetPlayground {
    type State = Playground;
    const NAME: &'static str = "reset";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        *playground = Playground::default();
        Ok(())
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SetText {
    text: String,
}

impl Event for SetText {
    type State = Playground;
    const NAME: &'static str = "set_text";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        if self.text.chars().count() > MAX_TEXT_CHARS {
            return Err(Rejection::invalid("at most 200 characters").field("text"));
        }
        playground.text.clone_from(&self.text);
        Ok(())
    }
}

/// Starts the ticker, which runs in the background once this event is committed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StartTicking {}

impl Event for StartTicking {
    type State = Playground;
    const NAME: &'static str = "start_ticking";

    fn apply(&self, playground: &mut Playground, context: &mut Context<Playground>) -> Result<(), Rejection> {
        if (1..TICKS).contains(&playground.ticks) {
            return Err(Rejection::conflict("it is ticking already"));
        }
        playground.ticks = 1;
        context.after(tick);
        Ok(())
    }
}

/// Stops the ticker and resets it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct CancelTicking {}

impl Event for CancelTicking {
    type State = Playground;
    const NAME: &'static str = "cancel";

    fn apply(&self, playground: &mut Playground, _: &mut Context<Playground>) -> Result<(), Rejection> {
        playground.ticks = 0;
        Ok(())
    }
}

/// Runs the ticker. Each tick is an ordinary change: saved, committed, sent to followers. A tick is applied only
/// after the previous tick of the same ticker, so a cancel in between ends it and no second ticker runs.
async fn tick(playground: Handle<Playground>) {
    for last in 1..TICKS {
        time::sleep(TICK).await;
        let next = playground.update(move |playground| {
            if playground.ticks != last {
                return Err(Rejection::conflict("the ticker was cancelled or restarted"));
            }
            playground.ticks = last + 1;
            Ok(())
        });
        if next.await.is_err() {
            break;
        }
    }
}

#[derive(Template)]
#[template(path = "home.html")]
struct HomePage<'a> {
    layout: Layout,
    playground: &'a Playground,
    timers: [timer::TimerCard; 2],
    /// The beginning of the session's id, which is safe to show.
    session: String,
    clock: u64,
}

impl HomePage<'_> {
    fn increment(&self) -> Action {
        IncrementNumber {}.action()
    }

    fn decrement(&self) -> Action {
        DecrementNumber {}.action()
    }

    fn reset(&self) -> Action {
        ResetPlayground {}.action()
    }

    fn start_ticking(&self) -> Action {
        StartTicking {}.action()
    }

    fn cancel(&self) -> Action {
        CancelTicking {}.action()
    }

    fn set_number(&self) -> Action {
        SetNumber { number: 0 }.action().bind("number", "_number").in_order()
    }

    /// The address of a line in this or another source file.
    fn source(&self, file: &str, text: &str) -> String {
        source::place(file, text)
    }

    /// Sends the text of the field, not the text of the state.
    fn set_text(&self) -> Action {
        SetText { text: String::new() }.action().bind("text", "_text").in_order()
    }
}

pub(crate) async fn show(page: &Page) -> Result<String, BoxError> {
    let playground = page.follow::<Playground>().await?;
    let timers = [timer::follow(page, "tea", "Tea").await?, timer::follow(page, "eggs", "Eggs").await?];
    let session = page.viewer().session_id().map(SessionId::to_string).unwrap_or_default();
    let page = HomePage {
        layout: Layout::of(page, "/", "home.rs").await?,
        playground: &playground,
        timers,
        session: session.chars().take(8).collect(),
        clock: timer::milliseconds(SystemTime::now()),
    };
    Ok(page.render()?)
}

/// Copies the playground of the visitor's session into a new session.
pub(crate) async fn move_to(page: &Page, session: SessionId) -> Result<(), Error> {
    let registry = page.endpoint().registry();
    let left = Handle::<Playground>::of(Arc::clone(registry), page.viewer(), None)?.read().await?;
    let (number, text) = (left.number, left.text.clone());
    let moved = Handle::<Playground>::of(Arc::clone(registry), &Viewer::session(session), None)?;
    let take = move |playground: &mut Playground| {
        (playground.number, playground.text) = (number, text.clone());
        Ok(())
    };
    moved.update(take).await.map(drop)
}

#[cfg(test)]
mod tests;
