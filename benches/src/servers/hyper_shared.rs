//! hyper with frames that are encoded once, and tokio's `broadcast`.

use std::{convert::Infallible, io, net, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{
    axum_datastar::CAPACITY,
    board::{self, PlainBoard},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

#[derive(Clone)]
struct HyperApp {
    board: Arc<Mutex<PlainBoard>>,
    changes: broadcast::Sender<Bytes>,
}

impl HyperApp {
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
        let mut response = Response::new(Empty::new().boxed_unsync());
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/follow") => {
                response
                    .headers_mut()
                    .insert("content-type", http::HeaderValue::from_static("text/event-stream"));
                *response.body_mut() = self.follow();
            }
            (&Method::POST, "/set") => {
                *response.status_mut() = self.set(request).await;
            }
            _ => *response.status_mut() = StatusCode::NOT_FOUND,
        }
        Ok(response)
    }

    fn follow(self) -> Body {
        let (first, mut changes) = {
            let board = self.board.lock();
            (Bytes::from(board::snapshot(&board)), self.changes.subscribe())
        };
        let stream = async_stream::stream! {
            yield Ok(Frame::data(first));
            loop {
                match changes.recv().await {
                    Ok(bytes) => yield Ok(Frame::data(bytes)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => break,
                }
            }
        };
        StreamBody::new(stream).boxed_unsync()
    }

    async fn set(self, request: Request<Incoming>) -> StatusCode {
        let Ok(body) = request.into_body().collect().await else { return StatusCode::BAD_REQUEST };
        let Ok(set) = serde_json::from_slice::<board::SetBoardNumber>(&body.to_bytes()) else {
            return StatusCode::BAD_REQUEST;
        };
        let mut board = self.board.lock();
        board.set(set);
        let _ = self.changes.send(board::frame(set.slot, set.value).into());
        StatusCode::NO_CONTENT
    }
}

pub(super) async fn serve(listener: net::TcpListener) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let app = HyperApp { board: Arc::default(), changes: broadcast::channel(CAPACITY).0 };
    loop {
        let (socket, _) = listener.accept().await?;
        let _ = socket.set_nodelay(true);
        let app = app.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| app.clone().answer(request));
            let mut builder = hyper::server::conn::http1::Builder::new();
            let _ = builder.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}
