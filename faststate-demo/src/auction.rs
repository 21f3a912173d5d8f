//! The auction: lots that end by themselves, and purses that pay for them, which agree by messages (law 16).
//!
//! An event changes one state, so a [`Bid`] only asks for the credit. All credit moves in the bidder's [`Purse`]:
//!
//! ```text
//! bid ──▶ lot ──reserve──▶ purse    accepted: `Lead` on the lot; rejected: `Decline` on the lot, which notifies the purse
//! lead:   lot ──release──▶ purse    of the leader before, or of this bidder if the bid has come too late
//! end:    lot ──pay──────▶ purse    of the leader; once it is accepted: `Collect`, lot ──earn──▶ purse of the seller
//! ```
//!
//! - **A bid counts once its credit is reserved.** Of bids in flight at once, each reserves its own credit. `Lead` compares
//!   the amount again: the highest one leads, and the others are released, whatever the order of the answers.
//! - **The end decides.** The timer does not wait for reservations. An answer after the end finds the lot over, and is
//!   released. An answer after the lot was opened again finds another [`round`](Lot::round), and is released as well.
//! - **A higher bid by the leader** reserves the whole new amount before the old one is released.
//! - **Nothing is lost or spent twice.** Each accepted `reserve` is followed by exactly one `release` or `pay`, and each
//!   `pay` by one `earn`. No message depends on what the lot has become meanwhile: it carries its own amount.
//! - **Only lots change reservations.** The events between lot and purse are registered as messages, so they cannot be
//!   called over HTTP, and they check [`Context::cause`].

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use askama::Template;
use faststate::{
    Address, BoxError, Error, EventId, Snapshot, endpoint::Page, prelude::*, registry::RegistryBuilder,
};
use serde::{Deserialize, Serialize};

use crate::{
    layout::Layout,
    lots::{self, LOTS, LotEntry},
    not_found,
    purse::{Earn, Notify, Pay, Purse, PurseCard, Release, ReleaseReason, Reserve},
    response::PageResponse,
    timer::milliseconds,
};

/// The seller of all lots.
pub(crate) const SELLER: &str = "alice";
const MAX_BID: u64 = 1_000_000;
/// The longest time for which a lot can be opened: 30 days.
const MAX_SECONDS: u64 = 30 * 24 * 3600;
/// The most messages that a lot has in flight. Another bid is rejected.
const MAX_PENDING: u32 = 256;

/// One lot.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Lot {
    /// The leading bid; 0 without bids.
    price: u64,
    /// The user with the leading bid; empty without bids.
    leader: String,
    /// Milliseconds since 1970.
    ends_at: u64,
    over: bool,
    /// Number of bids that have led.
    bids: u32,
    /// How often the lot was opened after it had been over.
    round: u32,
}

/// The lot as browsers see it.
#[derive(Serialize)]
struct LotSignals<'a> {
    price: u64,
    leader: &'a str,
    ends_at: u64,
    over: bool,
    bids: u32,
}

impl ReactiveState for Lot {
    const NAME: &'static str = lots::STATE;
    const SHOWS_PENDING: bool = true;

    fn signals(&self) -> impl Serialize {
        let Self { price, leader, ends_at, over, bids, .. } = self;
        LotSignals { price: *price, leader, ends_at: *ends_at, over: *over, bids: *bids }
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    let config = StateConfig::record().access(Access::public()).persist().sends_messages();
    builder.state::<Lot>(config, |state| {
        state
            .initial(|key| async move { key.id().and_then(|id| unopened(&id)) })
            .event::<Bid>()
            .event::<OpenLot>()
            .message::<Lead>()
            .message::<Decline>()
            .message::<EndAuction>()
            .message::<Collect>()
    })
}

/// Returns a lot that was never opened.
fn unopened(id: &str) -> Option<Lot> {
    lots::find(id).map(|_| Lot { over: true, ..Lot::default() })
}

/// Opens the lots that were never opened.
pub(crate) async fn open_new_lots(registry: &Arc<StateRegistry>) -> Result<(), BoxError> {
    // Of several nodes that start at once, one opens a lot, and the events of the others are repeats.
    let id: EventId = "new-lot".parse()?;
    for LotEntry { id: lot, hours, .. } in LOTS {
        let lot = registry.record::<Lot>(lot)?;
        if lot.read().await?.ends_at == 0 {
            let admin = Viewer::application().with_role("admin");
            lot.send_as(OpenLot { seconds: hours * 3600 }, admin, id.clone()).await?;
        }
    }
    Ok(())
}

/// Bids for a lot. The bid counts once the bidder's purse has reserved the credit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Bid {
    amount: u64,
}

impl Event for Bid {
    type State = Lot;
    const NAME: &'static str = "bid";

    fn authorize(&self, _: &Lot, viewer: &Viewer) -> Result<(), Rejection> {
        match viewer.user() {
            None => Err(Rejection::forbidden("sign in to bid")),
            Some(SELLER) => Err(Rejection::forbidden("sellers do not bid for their own lots")),
            Some(_) => Ok(()),
        }
    }

    fn apply(&self, lot: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        if lot.over || milliseconds(context.now()) >= lot.ends_at {
            return Err(Rejection::conflict("the auction of this lot is over"));
        }
        if self.amount <= lot.price {
            return Err(Rejection::invalid(format!("bid more than {}", lot.price)).field("amount"));
        }
        if self.amount > MAX_BID {
            return Err(Rejection::invalid(format!("at most {MAX_BID}")).field("amount"));
        }
        if context.pending() >= MAX_PENDING {
            return Err(Rejection::conflict("too many bids at this moment: try again"));
        }
        let Some(bidder) = context.viewer().user().map(str::to_owned) else {
            return Err(Rejection::forbidden("sign in to bid"));
        };
        let (amount, round) = (self.amount, lot.round);
        context
            .send(Address::<Purse>::user(&bidder), Reserve { amount })
            .then(Lead { bidder: bidder.clone(), amount, round })
            .or_else(Decline { bidder, amount });
        Ok(())
    }
}

/// Makes a bid lead whose credit was reserved, or releases the credit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lead {
    bidder: String,
    amount: u64,
    round: u32,
}

impl Event for Lead {
    type State = Lot;
    const NAME: &'static str = "lead";

    fn apply(&self, lot: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        check_own_message(context)?;
        let purse = Address::<Purse>::user(&self.bidder);
        let amount = self.amount;
        if lot.over || lot.round != self.round {
            context.send(purse, Release { amount, reason: ReleaseReason::TooLate });
        } else if amount <= lot.price {
            context.send(purse, Release { amount, reason: ReleaseReason::Outbid });
        } else {
            let is_raised = lot.leader == self.bidder;
            let reason = if is_raised { ReleaseReason::Raised } else { ReleaseReason::Outbid };
            if !lot.leader.is_empty() {
                context.send(Address::<Purse>::user(&lot.leader), Release { amount: lot.price, reason });
            }
            lot.leader.clone_from(&self.bidder);
            lot.price = amount;
            lot.bids += 1;
        }
        Ok(())
    }
}

/// Notifies a bidder whose purse has refused to reserve the credit. The lot does not change.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Decline {
    bidder: String,
    amount: u64,
}

impl Event for Decline {
    type State = Lot;
    const NAME: &'static str = "decline";

    fn apply(&self, _: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        check_own_message(context)?;
        let reason = context.rejection().map(|rejection| rejection.message().to_owned()).unwrap_or_default();
        context.send(Address::<Purse>::user(&self.bidder), Notify { amount: self.amount, reason });
        Ok(())
    }
}

/// Opens a lot that is over for new bids, or changes the end of one that is open.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenLot {
    /// The time until the end.
    seconds: u64,
}

impl Event for OpenLot {
    type State = Lot;
    const NAME: &'static str = "open";

    fn authorize(&self, _: &Lot, viewer: &Viewer) -> Result<(), Rejection> {
        if viewer.has_role("admin") {
            Ok(())
        } else {
            Err(Rejection::forbidden("only administrators open a lot"))
        }
    }

    fn apply(&self, lot: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        if !(1..=MAX_SECONDS).contains(&self.seconds) {
            return Err(Rejection::invalid(format!("from 1 to {MAX_SECONDS}")).field("seconds"));
        }
        if lot.over {
            *lot = Lot { round: lot.round + 1, ..Lot::default() };
        }
        let end = context.now() + Duration::from_secs(self.seconds);
        lot.ends_at = milliseconds(end);
        context.schedule("end", end, EndAuction {});
        Ok(())
    }
}

/// Ends the auction of a lot. The lot's timer sends it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct EndAuction {}

impl Event for EndAuction {
    type State = Lot;
    const NAME: &'static str = "end";

    fn apply(&self, lot: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        check_own_message(context)?;
        lot.over = true;
        if !lot.leader.is_empty() {
            let amount = lot.price;
            context.send(Address::<Purse>::user(&lot.leader), Pay { amount }).then(Collect { amount });
        }
        Ok(())
    }
}

/// Sends what the winner has paid to the seller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Collect {
    amount: u64,
}

impl Event for Collect {
    type State = Lot;
    const NAME: &'static str = "collect";

    fn apply(&self, _: &mut Lot, context: &mut Context<Lot>) -> Result<(), Rejection> {
        check_own_message(context)?;
        context.send(Address::<Purse>::user(SELLER), Earn { amount: self.amount });
        Ok(())
    }
}

/// Checks that the event follows a message, or belongs to a timer, of the same lot.
fn check_own_message(context: &Context<Lot>) -> Result<(), Rejection> {
    let is_own = context.cause().is_some_and(|cause| cause.key() == context.key());
    if is_own { Ok(()) } else { Err(Rejection::forbidden("only the lot itself does this")) }
}

/// One lot on a page.
struct LotCard {
    entry: &'static LotEntry,
    lot: Snapshot<Lot>,
}

impl LotCard {
    async fn of(page: &Page, entry: &'static LotEntry) -> Result<Self, Error> {
        Ok(Self { entry, lot: page.follow_id::<Lot>(entry.id).await? })
    }

    /// The time from `now` to the end, as [`LEFT`](Self::LEFT) computes it on the page.
    fn left(&self, now: &u64) -> String {
        if self.lot.over {
            return "over".to_owned();
        }
        let seconds = self.lot.ends_at.saturating_sub(*now).div_ceil(1000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        match hours {
            0 => format!("{minutes:02}:{:02}", seconds % 60),
            _ => format!("{hours} h {minutes:02} min"),
        }
    }

    /// A function in JavaScript, from a lot's signals and the time to the text of [`left`](Self::left).
    const LEFT: &'static str = "((lot, now) => lot.over ? 'over' : ((s, two) => s < 3600 ? two(s / 60) + ':' + \
        two(s % 60) : Math.floor(s / 3600) + ' h ' + two(s / 60 % 60) + ' min')(Math.max(0, Math.ceil((lot.ends_at - \
        now) / 1000)), n => String(Math.floor(n)).padStart(2, '0')))";

    /// The name before the leader's.
    fn leads(&self) -> &'static str {
        match (self.lot.over, self.lot.leader.is_empty()) {
            (false, true) => "no bids yet",
            (true, true) => "not sold",
            (false, false) => "leads",
            (true, false) => "has bought it",
        }
    }

    /// An expression in JavaScript with the text of [`leads`](Self::leads).
    fn leads_now(&self) -> String {
        let id = self.entry.id;
        format!(
            "$lot.{id}.leader ? ($lot.{id}.over ? 'has bought it' : 'leads') : ($lot.{id}.over ? 'not sold' : 'no bids yet')"
        )
    }
}

#[derive(Template)]
#[template(path = "auction.html")]
struct AuctionPage {
    layout: Layout,
    lots: Vec<LotCard>,
    purse: Option<PurseCard>,
    clock: u64,
}

pub(crate) async fn list(page: &Page) -> Result<String, BoxError> {
    let mut lots = Vec::new();
    for entry in LOTS {
        lots.push(LotCard::of(page, entry).await?);
    }
    let purse = PurseCard::of(page).await?;
    let layout = Layout::of(page, "/auction", "auction.rs").await?;
    Ok(AuctionPage { layout, lots, purse, clock: milliseconds(SystemTime::now()) }.render()?)
}

#[derive(Template)]
#[template(path = "lot.html")]
struct LotPage {
    layout: Layout,
    lot: LotCard,
    purse: Option<PurseCard>,
    is_admin: bool,
    clock: u64,
}

impl LotPage {
    fn is_bidder(&self) -> bool {
        self.purse.is_some() && self.layout.login.user != SELLER
    }

    fn bid(&self) -> Action {
        Bid { amount: 0 }.action().on(self.lot.entry.id).bind("amount", "_bid")
    }

    fn open(&self) -> Action {
        OpenLot { seconds: 0 }.action().on(self.lot.entry.id).bind("seconds", "_seconds")
    }
}

pub(crate) async fn show(page: &Page, id: &str) -> Result<PageResponse, BoxError> {
    let Some(entry) = lots::find(id) else {
        return not_found::answer(page, "There is no such lot").await;
    };
    let (lot, purse) = (LotCard::of(page, entry).await?, PurseCard::of(page).await?);
    let is_admin = page.viewer().has_role("admin");
    let layout = Layout::of(page, "/auction", "auction.rs").await?;
    let clock = milliseconds(SystemTime::now());
    Ok(LotPage { layout, lot, purse, is_admin, clock }.render()?.into())
}

#[cfg(test)]
mod tests;
