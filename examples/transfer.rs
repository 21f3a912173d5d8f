//! Money moves between accounts: `cargo run --example transfer`, then http://127.0.0.1:5000 in two windows.
//! An event changes one account, and a message changes the other: exactly once, or the money comes back.

use faststate::{Address, BoxError, prelude::*, salvo as fast};
use salvo::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
    refused: String,
}

impl ReactiveState for Account {
    const NAME: &'static str = "account";
}

#[derive(Serialize, Deserialize)]
struct Transfer {
    to: String,
    amount: u32,
}

impl Event for Transfer {
    type State = Account;
    const NAME: &'static str = "transfer";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance -= i64::from(self.amount);
        if account.balance < -100 {
            return Err(Rejection::conflict("not enough money"));
        }
        account.refused.clear();
        let amount = self.amount;
        context.send(Address::<Account>::record(&self.to), Deposit { amount }).or_else(Refund { amount });
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Deposit {
    amount: u32,
}

impl Event for Deposit {
    type State = Account;
    const NAME: &'static str = "deposit";

    fn apply(&self, account: &mut Account, _: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += i64::from(self.amount);
        if account.balance > 50 {
            return Err(Rejection::conflict("the account is full"));
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Refund {
    amount: u32,
}

impl Event for Refund {
    type State = Account;
    const NAME: &'static str = "refund";

    fn apply(&self, account: &mut Account, context: &mut Context<Account>) -> Result<(), Rejection> {
        account.balance += i64::from(self.amount);
        account.refused = context.rejection().map(ToString::to_string).unwrap_or_default();
        Ok(())
    }
}

#[handler]
async fn index(page: fast::Page) -> Result<Text<String>, fast::PageError> {
    let mut rows = String::new();
    for (from, to) in [("ann", "ben"), ("ben", "ann")] {
        let balance = page.follow_id::<Account>(from).await?.balance;
        let send = Transfer { to: to.into(), amount: 20 }.action().on(from);
        rows += &format!(
            r#"<p>{from}: <b id="{from}" data-text="$account.{from}.balance">{balance}</b>
            <button data-on:click="{send}">20 to {to}</button> <i data-text="$account.{from}.refused"></i></p>"#
        );
    }
    let (script, signals, follow) = (page.datastar_script(), page.signals(), page.follow_action());
    Ok(Text::Html(format!(
        r#"<!doctype html><title>Accounts</title>{script}<body data-signals="{signals}" data-init="{follow}">{rows}"#
    )))
}

fn site() -> Result<fast::FastState, BoxError> {
    // Over a durable store, `.persist()` carries transfers through crashes.
    let accounts = StateConfig::record().access(Access::public()).sends_messages();
    let registry = StateRegistry::builder().state::<Account>(accounts, |account| {
        account.event::<Transfer>().message::<Deposit>().message::<Refund>()
    });
    Ok(fast::FastState::new(registry.build()?))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:5000".into());
    Ok(site()?.serve(address, Router::new().get(index)).await?)
}

/// `cargo test --example transfer --features testing`
#[cfg(all(test, feature = "testing"))]
#[tokio::test]
async fn refused_deposit_comes_back() {
    use faststate::testing::{Browser, InProcess as _};
    let mut browser = Browser::new(&site().unwrap().app(Router::new().get(index)));
    browser.visit("/").await;
    for (ann, ben, refused) in [(-20, 20, ""), (-40, 40, ""), (-40, 40, "the account is full")] {
        browser.click("20 to ben").await.assert_changed();
        browser.sees("account.ann.refused", refused).await;
        browser.sees("account.ben.balance", ben).await;
        browser.assert_signal("account.ann.balance", ann);
    }
}
