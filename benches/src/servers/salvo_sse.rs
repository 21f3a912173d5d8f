//! Salvo's own `sse`, and a handler that does nothing.

use std::{convert::Infallible, io, net, sync::Arc};

use parking_lot::Mutex;
use salvo::{
    conn::tcp::TcpAcceptor,
    prelude::*,
    sse::{SseEvent, SseKeepAlive},
};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    axum_datastar::CAPACITY,
    board::{self, PlainBoard, SetBoardNumber},
};

#[derive(Clone)]
struct SalvoApp {
    board: Arc<Mutex<PlainBoard>>,
    changes: broadcast::Sender<Arc<str>>,
}

fn event(signals: &str) -> Result<SseEvent, Infallible> {
    Ok(SseEvent::default().name("datastar-patch-signals").text(format!("signals {signals}")))
}

struct Follow(SalvoApp);

#[async_trait]
impl Handler for Follow {
    async fn handle(&self, _: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let (first, mut changes) = {
            let board = self.0.board.lock();
            (board.signals(), self.0.changes.subscribe())
        };
        let stream = async_stream::stream! {
            yield event(&first);
            loop {
                match changes.recv().await {
                    Ok(change) => yield event(&change),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                }
            }
        };
        SseKeepAlive::new(stream).stream(response);
    }
}

struct SetSlot(SalvoApp);

#[async_trait]
impl Handler for SetSlot {
    async fn handle(&self, request: &mut Request, _: &mut Depot, response: &mut Response, _: &mut FlowCtrl) {
        let Ok(set) = request.parse_json::<SetBoardNumber>().await else {
            response.status_code(StatusCode::BAD_REQUEST);
            return;
        };
        let mut board = self.0.board.lock();
        board.set(set);
        let _ = self.0.changes.send(board::signals(set.slot, set.value).into());
        response.status_code(StatusCode::NO_CONTENT);
    }
}

pub(super) async fn serve(listener: net::TcpListener) -> io::Result<()> {
    let app = SalvoApp { board: Arc::default(), changes: broadcast::channel(CAPACITY).0 };
    let router = Router::new()
        .push(Router::with_path("follow").get(Follow(app.clone())))
        .push(Router::with_path("set").post(SetSlot(app)));
    run(listener, router).await
}

#[handler]
async fn nothing(response: &mut Response) {
    response.status_code(StatusCode::NO_CONTENT);
}

pub(super) async fn serve_nothing(listener: net::TcpListener) -> io::Result<()> {
    run(listener, Router::with_path("set").post(nothing)).await
}

async fn run(listener: net::TcpListener, router: Router) -> io::Result<()> {
    let acceptor = TcpAcceptor::try_from(tokio::net::TcpListener::from_std(listener)?)?;
    Server::new(acceptor).try_serve(router).await
}
