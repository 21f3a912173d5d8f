//! A small shop: a public stock, products, a basket per user, and pages.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use faststate_core::{
    Access, Context, Elements, Event, ReactiveState, Rejection, StateConfig, StateRegistry, Store, View,
    registry::{BuildError, RegistryBuilder},
};
use faststate_http::endpoint::Endpoint;
use faststate_testkit::App;
use http::{Method, Request, Response};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stock {
    pub(crate) count: i64,
    pub(crate) label: String,
    pub(crate) tags: Vec<String>,
}

impl ReactiveState for Stock {
    const NAME: &'static str = "stock";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Take {
    pub(crate) amount: i64,
}

impl Event for Take {
    type State = Stock;
    const NAME: &'static str = "take";

    fn apply(&self, stock: &mut Stock, context: &mut Context<Stock>) -> Result<(), Rejection> {
        if self.amount > 100 {
            return Err(Rejection::invalid("that is too much").and("amount", "at most 100"));
        }
        if self.amount < 0 {
            return Err(Rejection::forbidden("returns are not accepted"));
        }
        stock.count -= self.amount;
        context.reply(Elements::inner("#thanks", format!("<b>{} taken</b>", self.amount)));
        Ok(())
    }
}

/// Delivers after a delay, in work after the commit.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) amount: i64,
    pub(crate) after_ms: u64,
}

impl Event for Order {
    type State = Stock;
    const NAME: &'static str = "order";
    const METHOD: Method = Method::DELETE;

    fn apply(&self, stock: &mut Stock, context: &mut Context<Stock>) -> Result<(), Rejection> {
        stock.label = "on its way".into();
        let (amount, after) = (self.amount, Duration::from_millis(self.after_ms));
        context.after(move |stock| async move {
            tokio::time::sleep(after).await;
            let arrived = stock.update(move |stock| {
                stock.count += amount;
                "here".clone_into(&mut stock.label);
                Ok(())
            });
            let _ = arrived.await;
        });
        Ok(())
    }
}

/// The count as HTML.
pub(crate) struct Shelf;

impl View for Shelf {
    type State = Stock;
    const NAME: &'static str = "shelf";

    fn render(&self, stock: &Stock) -> Elements {
        Elements::outer(format!(
            "<ul id=\"shelf\"><li>{} left</li><li>{}</li></ul>",
            stock.count, stock.label
        ))
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Product {
    pub(crate) price: u32,
}

impl ReactiveState for Product {
    const NAME: &'static str = "product";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Price {
    pub(crate) price: u32,
}

impl Event for Price {
    type State = Product;
    const NAME: &'static str = "price";
    const METHOD: Method = Method::PUT;

    fn apply(&self, product: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> {
        product.price = self.price;
        Ok(())
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Basket {
    pub(crate) things: u32,
}

impl ReactiveState for Basket {
    const NAME: &'static str = "basket";
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Fill {}

impl Event for Fill {
    type State = Basket;
    const NAME: &'static str = "fill";

    fn apply(&self, basket: &mut Basket, _: &mut Context<Basket>) -> Result<(), Rejection> {
        basket.things += 1;
        Ok(())
    }
}

#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Till {
    pub(crate) coins: u32,
}

impl ReactiveState for Till {
    const NAME: &'static str = "till";
}

pub(crate) fn shop(node: RegistryBuilder) -> Result<Arc<StateRegistry>, BuildError> {
    node.state::<Stock>(StateConfig::global().access(Access::public()).persist(), |state| {
        state.event::<Take>().event::<Order>().view(Shelf)
    })
    .state::<Product>(StateConfig::record().access(Access::public()).persist(), |state| {
        state.event::<Price>()
    })
    .state::<Basket>(StateConfig::user().persist(), |state| state.event::<Fill>())
    .state::<Till>(StateConfig::global().access(Access::role("cashier")).persist(), |state| state)
    .build()
}

pub(crate) fn over(store: impl Store) -> App {
    let endpoint = Endpoint::new(shop(StateRegistry::builder().store(store)).unwrap());
    let pages = endpoint.clone();
    App::of(endpoint).pages(move |request| page(pages.clone(), request))
}

pub(crate) fn app() -> App {
    over(faststate_core::MemoryStore::new())
}

/// Renders pages as the handlers of a framework do.
async fn page(endpoint: Endpoint, request: Request<Bytes>) -> Response<Bytes> {
    let (head, body) = request.into_parts();
    let mut response = Response::builder();
    if head.uri.path() == "/old" {
        return response.status(303).header("location", "/").body(Bytes::new()).unwrap();
    }
    if head.uri.path() == "/logout" {
        response = response.header("set-cookie", "named=; Path=/; Max-Age=0");
    } else if head.method == Method::POST {
        response = response.header("set-cookie", "named=yes; Path=/");
    }
    let page = endpoint.page(&head).await.unwrap();
    let stock = page.follow::<Stock>().await.unwrap();
    let shelf = page.view::<Shelf>().await.unwrap();
    page.signal("wanted", 2);
    let take = Take { amount: 0 }.action().bind("amount", "wanted");
    let many = Take { amount: 101 }.action();
    let html = format!(
        r#"<!doctype html><title>Shop</title><body data-signals="{}" data-init="{}">
        <h1 data-text="$stock.count">{}</h1><p data-show="$stock.label">{{label}}<p id="thanks"></p>{}
        <input data-bind="note" value="&lt;none&gt;"><button data-on:click="{take}">Take some</button>
        <button aria-label="Take all" data-on:click__debounce.100ms="{many}">X</button>
        <form id="order" data-on:submit="@delete('/faststate/stock/order',{{payload:{{amount:$_five,after_ms:0}}}})"
            data-signals__ifmissing="{{_five: 5, wanted: 9}}"><button>Order</button></form>
        <footer data-text="$stock.count + 1">{}{:?}</footer>"#,
        page.signals(),
        page.follow_action(),
        stock.count,
        shelf.html(),
        String::from_utf8_lossy(&body),
        head.headers.get("cookie"),
    );
    response.body(html.into()).unwrap()
}
