//! axum with the official `datastar` crate, and tokio's `broadcast`.

use std::{convert::Infallible, io, net, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    response::{
        IntoResponse, Sse,
        sse::{Event, KeepAlive},
    },
    routing::{get, post},
};
use datastar::prelude::PatchSignals;
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use super::board::{self, PlainBoard, SetBoardNumber};

#[derive(Clone)]
struct AxumApp {
    board: Arc<Mutex<PlainBoard>>,
    changes: broadcast::Sender<Arc<PatchSignals>>,
}

async fn follow(State(app): State<AxumApp>) -> impl IntoResponse {
    let stream = async_stream::stream! {
        let (first, mut changes) = {
            let board = app.board.lock();
            (PatchSignals::new(board.signals()), app.changes.subscribe())
        };
        yield Ok::<Event, Infallible>(first.write_as_axum_sse_event());
        loop {
            match changes.recv().await {
                Ok(change) => yield Ok(change.write_as_axum_sse_event()),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => break,
            }
        }
    };
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn set(State(app): State<AxumApp>, Json(set): Json<SetBoardNumber>) -> impl IntoResponse {
    let patch = Arc::new(PatchSignals::new(board::signals(set.slot, set.value)));
    let mut board = app.board.lock();
    board.set(set);
    let _ = app.changes.send(Arc::clone(&patch));
    drop(board);
    Sse::new(futures::stream::iter([Ok::<_, Infallible>(patch.write_as_axum_sse_event())]))
}

pub(super) async fn serve(listener: net::TcpListener) -> io::Result<()> {
    let app = AxumApp { board: Arc::default(), changes: broadcast::channel(CAPACITY).0 };
    let router = Router::new().route("/follow", get(follow)).route("/set", post(set)).with_state(app);
    axum::serve(tokio::net::TcpListener::from_std(listener)?, router).await
}

/// The capacity of `broadcast`, as in the examples of tokio and axum.
pub(super) const CAPACITY: usize = 100;
