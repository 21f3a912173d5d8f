//! The suite, and an application that uses the store like any other one:
//! `cargo test --example custom_store --features conformance`.

use std::fs;

use faststate::{
    prelude::*,
    testing::{App, Browser},
};
use serde::{Deserialize, Serialize};

use crate::FolderStore;

#[test]
fn folder_store_passes_the_suite() {
    crate::main().unwrap();
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Note {
    text: String,
}

impl ReactiveState for Note {
    const NAME: &'static str = "note";
}

#[derive(Serialize, Deserialize)]
struct Write {
    text: String,
}

impl Event for Write {
    type State = Note;
    const NAME: &'static str = "write";

    fn apply(&self, note: &mut Note, _: &mut Context<Note>) -> Result<(), Rejection> {
        self.text.clone_into(&mut note.text);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn application_keeps_its_state_in_a_folder() {
    let folder = std::env::temp_dir().join(format!("faststate-folder-app-{}", std::process::id()));
    let start = || {
        let builder = StateRegistry::builder().store(FolderStore::open(&folder).unwrap());
        let note = StateConfig::user().persist();
        App::new(builder.state::<Note>(note, |state| state.event::<Write>()).build().unwrap())
    };
    let written = Write { text: "milk".into() };
    Browser::new(&start()).user("ada").send(&written).await.assert_changed();
    let app = start(); // A second registry over the same folder, like a restarted process.
    let mut ada = Browser::new(&app).user("ada");
    ada.follow("note").await;
    ada.assert_state(&Note { text: "milk".into() });
    Browser::new(&app).user("ben").send(&written).await.assert_changed();
    fs::remove_dir_all(&folder).unwrap();
}
