//! FastState with its default features.

use std::{future::ready, io, net};

use ::faststate::{
    SessionId,
    endpoint::{Identity, Limits, Secret},
    prelude::*,
    salvo::{FastState, Page},
};
use salvo::prelude::*;
use serde::{Deserialize, Serialize};

use super::board::SLOTS;

/// The global board.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct Board(Slots);

/// The board of one session.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
struct OwnBoard(Slots);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Slots {
    s0: u32,
    s1: u32,
    s2: u32,
    s3: u32,
    s4: u32,
    s5: u32,
    s6: u32,
    s7: u32,
    s8: u32,
    s9: u32,
    s10: u32,
    s11: u32,
    s12: u32,
    s13: u32,
    s14: u32,
    s15: u32,
}

impl Slots {
    fn set(&mut self, slot: usize, value: u32) -> Result<(), Rejection> {
        let slots: [&mut u32; SLOTS] = [
            &mut self.s0,
            &mut self.s1,
            &mut self.s2,
            &mut self.s3,
            &mut self.s4,
            &mut self.s5,
            &mut self.s6,
            &mut self.s7,
            &mut self.s8,
            &mut self.s9,
            &mut self.s10,
            &mut self.s11,
            &mut self.s12,
            &mut self.s13,
            &mut self.s14,
            &mut self.s15,
        ];
        let slot = slots.into_iter().nth(slot);
        *slot.ok_or_else(|| Rejection::invalid("there is no such slot").field("slot"))? = value;
        Ok(())
    }
}

impl ReactiveState for Board {
    const NAME: &'static str = "board";
}

impl ReactiveState for OwnBoard {
    const NAME: &'static str = "own_board";
}

#[derive(Serialize, Deserialize)]
struct Set {
    slot: usize,
    value: u32,
}

impl Event for Set {
    type State = Board;
    const NAME: &'static str = "set";

    fn apply(&self, board: &mut Board, _: &mut Context<Board>) -> Result<(), Rejection> {
        board.0.set(self.slot, self.value)
    }
}

#[derive(Serialize, Deserialize)]
struct SetOwn {
    slot: usize,
    value: u32,
}

impl Event for SetOwn {
    type State = OwnBoard;
    const NAME: &'static str = "set_own";

    fn apply(&self, board: &mut OwnBoard, _: &mut Context<OwnBoard>) -> Result<(), Rejection> {
        board.0.set(self.slot, self.value)
    }
}

/// The page that sets the cookie.
#[handler]
async fn index(page: Page) -> String {
    page.signals()
}

/// Serves with a number of unused instances of the session state in memory, and with an identity closure if `identifies` is
/// set.
pub(super) async fn serve(listener: net::TcpListener, others: usize, identifies: bool) -> io::Result<()> {
    let registry = StateRegistry::builder()
        .state::<Board>(StateConfig::global().access(Access::public()), |state| state.event::<Set>())
        .state::<OwnBoard>(StateConfig::session(), |state| state.event::<SetOwn>())
        .build()
        .map_err(io::Error::other)?;
    for _ in 0..others {
        let somebody = Viewer::session(SessionId::random());
        let theirs = registry.handle::<OwnBoard>(&somebody, None).map_err(io::Error::other)?;
        theirs.send(SetOwn { slot: 0, value: 1 }).await.map_err(io::Error::other)?;
    }
    // All load comes from one address.
    let limits = Limits { streams: 0, streams_per_address: 0, ..Limits::default() };
    let mut site = FastState::new(registry).secret(Secret::random()).limits(limits).hosts(["bench"]);
    if identifies {
        site = site.identity(|head| {
            let user = head.headers.get("x-user").and_then(|user| user.to_str().ok());
            ready(user.map_or_else(Identity::nobody, Identity::user))
        });
    }
    site.serve_on(listener, Router::new().get(index)).await
}
