//! Behaviour of Datastar 1.0.4 that the design relies on, tested with the real bundle in Chromium.
//!
//! If a test fails with a new bundle, reconsider the part of the wire format that relies on it.

mod act;
mod attribute;
mod checked;
mod elements;
mod origin;
mod policy;
mod signals;
mod stream;

use faststate_tests::{Demo, Page, Session, Site};

/// Follows a path without FastState's follow action: one stream, opened once and never closed.
const LISTEN: &str = "@get('/stream', {openWhenHidden: true, retry: 'always'})";

/// A site whose page has this body, with the bundle that the demo serves.
fn site(body: &str) -> Site {
    Site::new(Demo::bundle(), body)
}

/// Opens the site in a new session.
fn visit(site: &Site) -> Page {
    Session::new().open(&site.url())
}
