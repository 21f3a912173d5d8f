//! A browser context of Chromium.

use std::sync::Arc;

use serde_json::json;

use crate::devtools::Devtools;

/// A browser context, closed with its last page.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) devtools: Arc<Devtools>,
    pub(crate) id: String,
}

impl Drop for Context {
    fn drop(&mut self) {
        let _ =
            self.devtools.call(None, "Target.disposeBrowserContext", &json!({ "browserContextId": self.id }));
    }
}
