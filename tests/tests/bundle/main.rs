//! What the design leans on in Datastar 1.0.4, tried with the real bundle in Chromium.
//!
//! A fact that fails here after a new bundle is a place of DESIGN.md's Wire to think through again.

mod act;
mod attribute;
mod checked;
mod elements;
mod origin;
mod policy;
mod signals;
mod stream;

use faststate_tests::{Demo, Page, Session, Site};

/// Follows a path without any of FastState's care: one stream, opened once, ended never.
const LISTEN: &str = "@get('/stream', {openWhenHidden: true, retry: 'always'})";

/// A site whose page has this body, with the bundle that the demo serves.
fn site(body: &str) -> Site {
    Site::new(Demo::bundle(), body)
}

/// A new person looks at the site.
fn visit(site: &Site) -> Page {
    Session::new().open(&site.url())
}
