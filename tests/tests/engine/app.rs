//! An application whose state contains every shape that is difficult on the wire.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use faststate::{
    endpoint::{Endpoint, Page},
    prelude::*,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::adapter::{Adapter, Show, shows};

/// Maps, options and lists, nested in each other.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Shapes {
    pub(crate) stock: BTreeMap<String, i64>,
    pub(crate) shelves: BTreeMap<String, BTreeMap<String, Option<String>>>,
    pub(crate) note: Option<String>,
    pub(crate) detail: Option<Detail>,
    pub(crate) list: Vec<Option<Detail>>,
    pub(crate) large: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Detail {
    pub(crate) label: Option<String>,
    pub(crate) tags: Vec<String>,
}

impl ReactiveState for Shapes {
    const NAME: &'static str = "shapes";
}

/// A page with this body that follows its topics.
pub(crate) fn html(page: &Page, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><link rel=\"icon\" href=\"data:,\">{}</head>
        <body data-signals=\"{}\" data-init=\"{}\">{body}</body></html>",
        page.datastar_script(),
        page.signals(),
        page.follow_action(),
    )
}

/// A running application. Dropping it stops the server.
pub(crate) struct App {
    runtime: Runtime,
    address: SocketAddr,
    registry: Arc<StateRegistry>,
    endpoint: Endpoint,
}

impl App {
    /// Serves the state at `/`, with a replay buffer of this size.
    pub(crate) fn shapes(adapter: Adapter, log_bytes: usize, body: &'static str) -> Self {
        let config = StateConfig::global().access(Access::public()).replay_buffer_bytes(log_bytes);
        let registry = || StateRegistry::builder().state::<Shapes>(config, |state| state).build().unwrap();
        let show = move |page: Page| async move {
            page.follow::<Shapes>().await?;
            Ok(html(&page, body))
        };
        Self::serve(adapter, registry, &[("/", shows(show))])
    }

    /// Serves a registry with pages.
    pub(crate) fn serve(
        adapter: Adapter,
        registry: impl FnOnce() -> Arc<StateRegistry>,
        pages: &[(&'static str, Show)],
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let registry = runtime.block_on(async { registry() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = {
            let _inside = runtime.enter();
            adapter.serve(Arc::clone(&registry), listener, pages)
        };
        Self { runtime, address, registry, endpoint }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The endpoint, so that tests can close streams.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Changes the state through a handle.
    pub(crate) fn change(&self, change: impl Fn(&mut Shapes) + Send + Sync + 'static) {
        let handle = self.registry.global::<Shapes>().unwrap();
        let changed = handle.update(move |shapes| {
            change(shapes);
            Ok(())
        });
        self.runtime.block_on(changed).unwrap();
    }

    /// The signals that a browser should have for the present state.
    pub(crate) fn truth<S: ReactiveState>(&self, id: Option<&str>) -> Value {
        let handle = self.registry.handle::<S>(&Viewer::application(), id).unwrap();
        let state = self.runtime.block_on(handle.read()).unwrap();
        normalised(serde_json::to_value(&*state).unwrap())
    }
}

/// Applies the wire's rules: an absent value is an empty string, an integer beyond 2^53 is a string.
fn normalised(value: Value) -> Value {
    match value {
        Value::Null => "".into(),
        Value::Number(number) if number.as_u64().is_some_and(|number| number > 1 << 53) => {
            number.to_string().into()
        }
        Value::Array(items) => items.into_iter().map(normalised).collect(),
        Value::Object(fields) => fields.into_iter().map(|(name, value)| (name, normalised(value))).collect(),
        other => other,
    }
}

/// The page's signals of one state, without the cursor.
pub(crate) fn seen(page: &faststate_tests::Page, path: &str) -> Value {
    let mut signals = page.signal(path);
    if let Some(fields) = signals.as_object_mut() {
        fields.remove("_v");
    }
    signals
}
