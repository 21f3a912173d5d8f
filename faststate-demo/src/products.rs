//! Products: records with a page each, and the catalogue that lists them.

use askama::Template;
use faststate::{BoxError, Error, endpoint::Page, prelude::*, registry::RegistryBuilder};
use serde::{Deserialize, Serialize};

use crate::{
    draft::{only_touched, put, touched},
    layout::Layout,
    not_found,
    response::PageResponse,
    text::is_visible,
};

const FIELDS: &[&str] = &["name", "description", "price", "stock"];

/// All products before their first edit: id, name, price in cents, stock, description.
const SHOP: &[(&str, &str, u32, u32, &str)] = &[
    ("lamp", "Reading lamp", 4_900, 12, "A warm light that bends to wherever the book is."),
    ("mug", "Enamel mug", 1_450, 40, "Survives campfires, dishwashers and being dropped."),
    ("clock", "Quiet clock", 6_200, 7, "A sweeping hand and not a single tick."),
    ("plant", "Patient plant", 1_990, 18, "Wants water on Sundays and forgives one that was forgotten."),
    ("chair", "Kitchen chair", 11_900, 4, "Ash, oiled by hand. Does not wobble."),
    ("book", "Blank book", 1_200, 60, "Two hundred pages of good paper with nothing on them yet."),
];

/// One product.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Product {
    name: String,
    description: String,
    /// The price in cents.
    price: u32,
    stock: u32,
}

/// The product as browsers see it.
#[derive(Serialize)]
struct ProductSignals<'a> {
    name: &'a str,
    description: &'a str,
    price: String,
    stock: String,
}

impl ReactiveState for Product {
    const NAME: &'static str = "product";

    fn signals(&self) -> impl Serialize {
        let Self { name, description, stock, .. } = self;
        ProductSignals { name, description, price: self.price(), stock: stock.to_string() }
    }
}

impl Product {
    fn price(&self) -> String {
        format!("{}.{:02}", self.price / 100, self.price % 100)
    }
}

pub(crate) fn register(builder: RegistryBuilder) -> RegistryBuilder {
    builder.state::<Product>(StateConfig::record().access(Access::public()).persist(), |state| {
        state
            .initial(|key| async move { key.id().and_then(|id| initial(&id)) })
            .event::<Edit>()
            .event::<Buy>()
    })
}

/// Returns a product before its first edit.
fn initial(id: &str) -> Option<Product> {
    let (_, name, price, stock, description) = *SHOP.iter().find(|(known, ..)| *known == id)?;
    Some(Product { name: name.into(), description: description.into(), price, stock })
}

/// Changes the fields that were touched, and keeps concurrent edits of the others.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Edit {
    #[serde(default, deserialize_with = "touched")]
    name: Option<String>,
    #[serde(default, deserialize_with = "touched")]
    description: Option<String>,
    #[serde(default, deserialize_with = "touched")]
    price: Option<String>,
    #[serde(default, deserialize_with = "touched")]
    stock: Option<String>,
}

impl Event for Edit {
    type State = Product;
    const NAME: &'static str = "edit";

    fn apply(&self, product: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> {
        let mut refused = Rejection::invalid("the product was not saved");
        let length = |text: &Option<String>| text.as_ref().map_or(1, |text| text.trim().chars().count());
        if length(&self.name) > 60 || self.name.as_deref().is_some_and(|name| !is_visible(name)) {
            refused = refused.and("name", "1 to 60 characters");
        }
        if length(&self.description) > 300 {
            refused = refused.and("description", "at most 300 characters");
        }
        let (price, stock) = (self.price.as_deref().map(cents), self.stock.as_deref().map(pieces));
        if price == Some(None) {
            refused = refused.and("price", "an amount up to 100000, like 24.90");
        }
        if stock == Some(None) {
            refused = refused.and("stock", "a whole number up to 9999");
        }
        if refused.fields().next().is_some() {
            return Err(refused);
        }
        put(self.name.as_deref(), &mut product.name);
        put(self.description.as_deref(), &mut product.description);
        product.price = price.flatten().unwrap_or(product.price);
        product.stock = stock.flatten().unwrap_or(product.stock);
        Ok(())
    }
}

/// Parses a price into cents: `24.9` is 2490.
fn cents(text: &str) -> Option<u32> {
    let (whole, part) = text.trim().split_once(['.', ',']).unwrap_or((text.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || part.len() > 2 || !digits(whole) || !digits(part) {
        return None;
    }
    let whole = whole.parse::<u32>().ok()?.checked_mul(100)?;
    let cents = whole.checked_add(format!("{part:0<2}").parse().ok()?)?;
    (cents <= 10_000_000).then_some(cents)
}

fn pieces(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|pieces| *pieces <= 9_999)
}

/// Takes one piece out of the stock, unless the product is sold out.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Buy {}

impl Event for Buy {
    type State = Product;
    const NAME: &'static str = "buy";

    fn apply(&self, product: &mut Product, _: &mut Context<Product>) -> Result<(), Rejection> {
        product.stock = product
            .stock
            .checked_sub(1)
            .ok_or_else(|| Rejection::conflict("sold out: the last one was just taken"))?;
        Ok(())
    }
}

#[derive(Template)]
#[template(path = "catalogue.html")]
struct CataloguePage {
    layout: Layout,
    products: Vec<(&'static str, faststate::Snapshot<Product>)>,
}

pub(crate) async fn list(page: &Page) -> Result<String, BoxError> {
    let mut products = Vec::new();
    for (id, ..) in SHOP {
        products.push((*id, page.follow_id::<Product>(id).await?));
    }
    let layout = Layout::of(page, "/products", "products.rs").await?;
    Ok(CataloguePage { layout, products }.render()?)
}

#[derive(Template)]
#[template(path = "product.html")]
struct ProductPage<'a> {
    layout: Layout,
    id: &'a str,
    product: &'a Product,
}

impl ProductPage<'_> {
    fn edit(&self) -> Action {
        only_touched(Edit::default().action(), FIELDS).on(self.id)
    }

    /// The path of the product's signals.
    fn at(&self) -> String {
        format!("product.{}", self.id)
    }

    fn buy(&self) -> Action {
        Buy {}.action().on(self.id)
    }
}

pub(crate) async fn show(page: &Page, id: &str) -> Result<PageResponse, BoxError> {
    let product = match page.follow_id::<Product>(id).await {
        Ok(product) => product,
        Err(Error::Unknown) => return not_found::answer(page, "There is no such product").await,
        Err(error) => return Err(error.into()),
    };
    let layout = Layout::of(page, "/products", "products.rs").await?;
    Ok(ProductPage { layout, id, product: &product }.render()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_accept_common_notations() {
        for (text, price) in
            [("24.90", 2490), (" 24.9 ", 2490), ("24", 2400), ("0,05", 5), ("100000", 10_000_000)]
        {
            assert_eq!(cents(text), Some(price), "{text}");
        }
        for text in ["", ".", ".5", "-1", "1.234", "1e3", "100000.01", "99999999999", "42949672.96", "1.+1"] {
            assert_eq!(cents(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn law_02_edit_keeps_untouched_fields() -> Result<(), BoxError> {
        let registry = register(StateRegistry::builder()).store(faststate::MemoryStore::new()).build()?;
        let lamp = registry.record::<Product>("lamp")?;
        let price = Edit { price: Some("50".into()), ..Edit::default() };
        let name =
            Edit { name: Some(" Desk lamp ".into()), description: Some(String::new()), ..Edit::default() };
        lamp.send(price).await?;
        lamp.send(name).await?;
        let now = lamp.read().await?;
        assert_eq!((&*now.name, &*now.description, now.price, now.stock), ("Desk lamp", "", 5000, 12));
        assert!(registry.record::<Product>("lam")?.read().await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn last_piece_is_taken_once() -> Result<(), BoxError> {
        let registry = register(StateRegistry::builder()).store(faststate::MemoryStore::new()).build()?;
        let chair = registry.record::<Product>("chair")?;
        for _ in 0..4 {
            chair.send(Buy {}).await?;
        }
        assert!(chair.send(Buy {}).await.is_err());
        assert_eq!(chair.read().await?.stock, 0);
        Ok(())
    }
}
