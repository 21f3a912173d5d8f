//! A minimal framework with a handful of paths.

use std::{
    convert::Infallible,
    future::pending,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use faststate_core::BoxError;
use faststate_http::{
    endpoint::Endpoint,
    server::{self, Application, ClientConnection, Framework, RequestBody},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub(crate) type FastState = server::FastState<Plain>;

/// A framework without routes and pages.
pub(crate) struct Plain;

impl Framework for Plain {
    type Router = ();
    type Pages = ();
    type Application = Self;

    fn router(_: Endpoint) {}

    fn pages(_: Endpoint) {}

    fn application((): (), (): ()) -> Self {
        Self
    }
}

impl Application for Plain {
    type Connection = Client;

    fn connect(&self, local: SocketAddr, peer: SocketAddr) -> Client {
        Client { local, peer, leaves: AtomicBool::new(false) }
    }
}

pub(crate) struct Client {
    local: SocketAddr,
    peer: SocketAddr,
    leaves: AtomicBool,
}

impl ClientConnection for Client {
    type Body = Full<Bytes>;

    async fn answer(&self, request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, BoxError> {
        let text = match request.uri().path() {
            "/echo" => request.into_body().collect().await?.to_bytes(),
            "/who" => format!("{} to {}", self.peer, self.local).into(),
            "/fail" => return Err("no answer at all".into()),
            "/leave" => {
                self.leaves.store(true, Ordering::SeqCst);
                pending().await
            }
            "/upgrade" => return Ok(upgrade(request)),
            path => format!("the plain {path}").into(),
        };
        Ok(Response::new(Full::new(text)))
    }

    fn is_given_up(&self) -> bool {
        self.leaves.load(Ordering::SeqCst)
    }
}

/// Upgrades to a protocol that echoes every byte twice.
fn upgrade(mut request: Request<RequestBody>) -> Response<Full<Bytes>> {
    let upgrading = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut socket = TokioIo::new(upgrading.await.unwrap());
        while let Ok(byte) = socket.read_u8().await {
            socket.write_all(&[byte, byte]).await.unwrap();
        }
        Ok::<_, Infallible>(())
    });
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static("twice"));
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    response
}
