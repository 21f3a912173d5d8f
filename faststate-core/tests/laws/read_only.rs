//! A registry that refuses events during maintenance.

use std::sync::Arc;

use faststate_core::{
    Access, Context, Error, Event, ReactiveState, Registry, Rejection, StateConfig, StateRegistry, Viewer,
    registry::{Call, MaintenanceGate},
    wire::Input,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Default, Serialize, Deserialize)]
struct Settings {
    closed: bool,
}

impl ReactiveState for Settings {
    const NAME: &'static str = "settings";
}

#[derive(Serialize, Deserialize)]
struct Close {
    closed: bool,
}

impl Event for Close {
    type State = Settings;
    const NAME: &'static str = "close";

    fn apply(&self, settings: &mut Settings, _: &mut Context<Settings>) -> Result<(), Rejection> {
        settings.closed = self.closed;
        Ok(())
    }
}

async fn close(registry: &MaintenanceGate, viewer: &Viewer, closed: bool) -> Result<(), Error> {
    let key = registry.key("settings", viewer, None)?;
    let input = Input::parse(Some(&format!("closed={closed}")), None, b"")?;
    registry.dispatch(Call::new(key, "close", viewer.clone(), input)).await.map(drop)
}

#[tokio::test]
async fn gate_refuses_events_by_a_state_and_by_its_switch() {
    let inner = StateRegistry::builder()
        .state::<Settings>(StateConfig::global().access(Access::public()), |state| state.event::<Close>())
        .build()
        .unwrap();
    let settings = inner.global::<Settings>().unwrap();
    let registry = MaintenanceGate::new(Arc::clone(&inner) as _, "back soon")
        .when(settings.clone(), |settings, call| settings.closed && !call.viewer.has_role("admin"));
    let (guest, admin) = (Viewer::application(), Viewer::application().with_role("admin"));
    close(&registry, &guest, true).await.unwrap();
    let refused = close(&registry, &guest, false).await;
    assert!(matches!(refused, Err(Error::Rejected(rejection)) if rejection.message() == "back soon"));
    assert!(settings.read().await.unwrap().closed);
    close(&registry, &admin, false).await.unwrap();
    close(&registry, &guest, true).await.unwrap();
    // The application itself is never refused, and an enabled gate refuses every viewer.
    settings.send(Close { closed: false }).await.unwrap();
    registry.enable();
    assert!(close(&registry, &admin, true).await.is_err());
    registry.disable();
    close(&registry, &admin, true).await.unwrap();
}
