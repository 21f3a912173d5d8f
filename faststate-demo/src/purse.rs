//! Purses: the credit of bidders in the [`auction`](crate::auction).
//!
//! A user only tops up. Everything else happens in messages from lots, which no HTTP request can send.

use std::collections::VecDeque;

use askama::Template;
use faststate::{Cause, Error, Snapshot, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};

use crate::lots;

const MAX_TOP_UP: u64 = 1_000;
/// Number of notices that a purse keeps.
const NOTICES: usize = 5;

/// The credit of one user. `credit + reserved + spent` always equals what was topped up and earned.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Purse {
    pub(crate) credit: u64,
    /// The credit behind the user's bids.
    pub(crate) reserved: u64,
    pub(crate) spent: u64,
    pub(crate) earned: u64,
    notices: VecDeque<String>,
    /// Number of notices so far, from which the elements on the page get their ids.
    notice_count: u64,
}

/// The amounts; the notices are a [`View`].
#[derive(Serialize)]
struct PurseSignals {
    credit: u64,
    reserved: u64,
    spent: u64,
    earned: u64,
}

impl ReactiveState for Purse {
    const NAME: &'static str = "purse";

    fn signals(&self) -> impl Serialize {
        let Self { credit, reserved, spent, earned, .. } = *self;
        PurseSignals { credit, reserved, spent, earned }
    }
}

impl Purse {
    fn notify(&mut self, text: String) {
        self.notices.truncate(NOTICES - 1);
        self.notices.push_front(text);
        self.notice_count += 1;
    }

    #[cfg(test)]
    pub(crate) fn latest_notice(&self) -> &str {
        self.notices.front().map_or("", |notice| notice)
    }

    /// Takes reserved credit, which its caller puts elsewhere.
    fn take_reserved(&mut self, amount: u64) -> Result<(), Rejection> {
        let left = self.reserved.checked_sub(amount);
        self.reserved = left.ok_or_else(|| Rejection::conflict("this credit is not reserved"))?;
        Ok(())
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Purse>(StateConfig::user().persist(), |state| {
        state
            .event::<TopUp>()
            .message::<Reserve>()
            .message::<Release>()
            .message::<Notify>()
            .message::<Pay>()
            .message::<Earn>()
            .view(Notices)
    })
}

/// Adds credit to the viewer's purse.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TopUp {
    pub(crate) amount: u64,
}

impl Event for TopUp {
    type State = Purse;
    const NAME: &'static str = "top_up";

    fn apply(&self, purse: &mut Purse, _: &mut Context<Purse>) -> Result<(), Rejection> {
        if !(1..=MAX_TOP_UP).contains(&self.amount) {
            return Err(Rejection::invalid(format!("from 1 to {MAX_TOP_UP}")).field("amount"));
        }
        purse.credit += self.amount;
        Ok(())
    }
}

/// Sets credit aside for a bid.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Reserve {
    pub(crate) amount: u64,
}

impl Event for Reserve {
    type State = Purse;
    const NAME: &'static str = "reserve";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        sending_lot(context)?;
        let Some(left) = purse.credit.checked_sub(self.amount) else {
            return Err(Rejection::conflict(format!("your credit is {}", purse.credit)));
        };
        purse.credit = left;
        purse.reserved += self.amount;
        Ok(())
    }
}

/// The reason why reserved credit returns to its user.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ReleaseReason {
    Outbid,
    TooLate,
    /// The user leads with a higher bid.
    Raised,
}

/// Returns reserved credit.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Release {
    pub(crate) amount: u64,
    pub(crate) reason: ReleaseReason,
}

impl Event for Release {
    type State = Purse;
    const NAME: &'static str = "release";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        let (lot, amount) = (sending_lot(context)?, self.amount);
        purse.take_reserved(amount)?;
        purse.credit += amount;
        match self.reason {
            ReleaseReason::Outbid => purse.notify(format!("{lot}: you were outbid, {amount} is yours again")),
            ReleaseReason::TooLate => {
                purse.notify(format!("{lot}: your bid came too late, {amount} is yours again"));
            }
            ReleaseReason::Raised => {}
        }
        Ok(())
    }
}

/// Notifies the user that a bid was not made.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Notify {
    pub(crate) amount: u64,
    pub(crate) reason: String,
}

impl Event for Notify {
    type State = Purse;
    const NAME: &'static str = "notify";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        let lot = sending_lot(context)?;
        purse.notify(format!("{lot}: your bid of {} does not count, {}", self.amount, self.reason));
        Ok(())
    }
}

/// Spends the reserved credit of the winner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pay {
    pub(crate) amount: u64,
}

impl Event for Pay {
    type State = Purse;
    const NAME: &'static str = "pay";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        let (lot, amount) = (sending_lot(context)?, self.amount);
        purse.take_reserved(amount)?;
        purse.spent += amount;
        purse.notify(format!("{lot}: it is yours, for {amount}"));
        Ok(())
    }
}

/// Pays the seller.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Earn {
    pub(crate) amount: u64,
}

impl Event for Earn {
    type State = Purse;
    const NAME: &'static str = "earn";

    fn apply(&self, purse: &mut Purse, context: &mut Context<Purse>) -> Result<(), Rejection> {
        let (lot, amount) = (sending_lot(context)?, self.amount);
        purse.earned += amount;
        purse.credit += amount;
        purse.notify(format!("{lot}: sold for {amount}"));
        Ok(())
    }
}

/// Returns the title of the lot that sent the message.
fn sending_lot(context: &Context<Purse>) -> Result<&'static str, Rejection> {
    let sender = context.cause().map(Cause::key).filter(|key| key.state() == lots::STATE);
    let lot = sender.and_then(|key| key.id()).and_then(|id| lots::find(&id));
    lot.map(|lot| lot.title).ok_or_else(|| Rejection::forbidden("only lots change a purse"))
}

/// The latest notices of a purse.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notices;

impl View for Notices {
    type State = Purse;
    const NAME: &'static str = "notices";

    fn render(&self, purse: &Purse) -> Elements {
        let numbers = (0..=purse.notice_count).rev();
        Elements::outer(NoticeList { notices: numbers.zip(&purse.notices).collect() }.to_string())
    }
}

#[derive(Template)]
#[template(path = "notices.html")]
struct NoticeList<'a> {
    notices: Vec<(u64, &'a String)>,
}

/// The viewer's purse on a page.
pub(crate) struct PurseCard {
    pub(crate) purse: Snapshot<Purse>,
    pub(crate) notices: Elements,
}

impl PurseCard {
    /// Follows the viewer's purse, unless the viewer is a guest.
    pub(crate) async fn of(page: &Page) -> Result<Option<Self>, Error> {
        if page.viewer().user().is_none() {
            return Ok(None);
        }
        Ok(Some(Self { purse: page.follow::<Purse>().await?, notices: page.view::<Notices>().await? }))
    }

    pub(crate) fn top_up(&self) -> Action {
        TopUp { amount: 0 }.action().bind("amount", "_top_up")
    }
}
