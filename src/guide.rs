#![doc = include_str!("guide/links.md")]
#![doc = include_str!("../docs/guide/index.md")]
// Each chapter defines its links for the book. rustdoc takes the first definition, which is that of `links.md`.
#![allow(rustdoc::redundant_explicit_links)]

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/start.md")]
pub mod start {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/state.md")]
pub mod state {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/events.md")]
pub mod events {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/views.md")]
pub mod views {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/work.md")]
pub mod work {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/messages.md")]
pub mod messages {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/forms.md")]
pub mod forms {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/identity.md")]
pub mod identity {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/stores.md")]
pub mod stores {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/nodes.md")]
pub mod nodes {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/production.md")]
pub mod production {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/extending.md")]
pub mod extending {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/from_python.md")]
pub mod from_python {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/from_liveview.md")]
pub mod from_liveview {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/from_axum.md")]
pub mod from_axum {}

#[doc = include_str!("guide/links.md")]
#[doc = include_str!("../docs/guide/not_for.md")]
pub mod not_for {}
