//! An application with a state that has everything that is hard on the wire.

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

/// Maps, options, lists, and all of them inside each other.
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

/// A page with this body that follows what it has collected.
pub(crate) fn html(page: &Page, body: &str) -> String {
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><link rel=\"icon\" href=\"data:,\">{}</head>
        <body data-signals=\"{}\" data-init=\"{}\">{body}</body></html>",
        page.datastar_script(),
        page.signals(),
        page.follow_action(),
    )
}

/// A served application; it ends when it is dropped.
pub(crate) struct App {
    runtime: Runtime,
    address: SocketAddr,
    registry: Arc<StateRegistry>,
    endpoint: Endpoint,
}

impl App {
    /// Serves the state at `/`, with this much log for followers that lag.
    pub(crate) fn shapes(adapter: Adapter, log_bytes: usize, body: &'static str) -> Self {
        let config = StateConfig::global().access(Access::public()).replay_buffer_bytes(log_bytes);
        let registry = || StateRegistry::builder().state::<Shapes>(config, |state| state).build().unwrap();
        let show = move |page: Page| async move {
            page.follow::<Shapes>().await?;
            Ok(html(&page, body))
        };
        Self::serve(adapter, registry, &[("/", shows(show))])
    }

    /// Serves any registry and pages.
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

    /// What answers, for those who close streams.
    pub(crate) const fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Changes the state as application code does.
    pub(crate) fn change(&self, change: impl Fn(&mut Shapes) + Send + Sync + 'static) {
        let handle = self.registry.global::<Shapes>().unwrap();
        let changed = handle.update(move |shapes| {
            change(shapes);
            Ok(())
        });
        self.runtime.block_on(changed).unwrap();
    }

    /// What any instance is now, as a browser should have it.
    pub(crate) fn truth<S: ReactiveState>(&self, id: Option<&str>) -> Value {
        let handle = self.registry.handle::<S>(&Viewer::application(), id).unwrap();
        let state = self.runtime.block_on(handle.read()).unwrap();
        normalised(serde_json::to_value(&*state).unwrap())
    }
}

/// By the wire's rules: what is not there is empty, and what JavaScript cannot count is text.
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

/// A page's signals of a state, without the cursor.
pub(crate) fn seen(page: &faststate_tests::Page, path: &str) -> Value {
    let mut signals = page.signal(path);
    if let Some(fields) = signals.as_object_mut() {
        fields.remove("_v");
    }
    signals
}
