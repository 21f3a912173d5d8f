//! FastState's demo.
mod chat;
mod cli;
mod counter;
mod home;
mod layout;
mod problem;
use std::sync::Arc;
use clap::Parser;
use faststate::{endpoint::*, prelude::*, BoxError};
use salvo::{prelude::*, http::ResBody};

struct Glue(Endpoint, &'static str);
#[salvo::async_trait]
impl Handler for Glue {
    async fn handle(&self, req: &mut Request, _: &mut Depot, res: &mut Response, _: &mut FlowCtrl) {
        let mut r = http_req(req);
        let peer = req.remote_addr().to_string(); let _ = peer;
        if self.1.is_empty() {
            *r.body_mut() = req.take_body();
            let out = self.0.respond(r, None).await;
            let (p, b) = out.into_parts();
            res.status_code(p.status); *res.headers_mut() = p.headers; res.body(ResBody::Boxed(Box::pin(B(b))));
            return;
        }
        let (parts, _) = r.into_parts();
        let page = self.0.page(&parts).await;
        let html = match self.1 { "/" => home::render(&page).await, "/counter" => counter::render(&page, "http://127.0.0.1:5000").await, _ => chat::render(&page).await };
        if let Some(c) = page.set_cookie() { res.headers_mut().insert("set-cookie", c.clone()); }
        match html { Ok(h) => res.render(Text::Html(h)), Err(e) => res.render(format!("{e}")) }
    }
}
fn http_req(req: &Request) -> salvo::hyper::Request<salvo::http::ReqBody> {
    let mut r = salvo::hyper::Request::new(salvo::http::ReqBody::None);
    *r.uri_mut() = req.uri().clone(); *r.method_mut() = req.method().clone(); *r.headers_mut() = req.headers().clone(); r
}
struct B(ReplyBody);
impl http_body::Body for B { type Data = bytes::Bytes; type Error = salvo::BoxedError;
    fn poll_frame(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(cx).map(|o| o.map(|r| r.map_err(|e| match e {})))
    }
}
#[handler] async fn style(res: &mut Response) { res.headers_mut().insert("content-type", "text/css".parse().unwrap()); res.write_body(include_str!("../assets/style.css")).unwrap(); }
#[handler] async fn icon(res: &mut Response) { res.headers_mut().insert("content-type", "image/svg+xml".parse().unwrap()); res.write_body(include_str!("../assets/favicon.svg")).unwrap(); }
#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    let o = cli::Options::parse();
    let registry = StateRegistry::builder()
        .state::<home::Playground>(StateConfig::session(), |s| s.event::<home::Increment>().event::<home::Decrement>().event::<home::Reset>().event::<home::SetText>().event::<home::StartTicking>())
        .state::<counter::Counter>(StateConfig::global().access(Access::public()), |s| s.event::<counter::Increment>().event::<counter::Decrement>().event::<counter::Reset>())
        .state::<chat::Chat>(StateConfig::global().access(Access::public()), |s| s.event::<chat::SendMessage>().view(chat::Messages).presence(|present| chat::PresenceChanged { present }))
        .build()?;
    let e = Endpoint::new(registry as Arc<dyn faststate::Registry>).problem_view(problem::Notice).limits(o.limits()).datastar(Bundle::embedded(include_bytes!(concat!(env!("OUT_DIR"), "/datastar.js")))?);
    let router = Router::new().get(Glue(e.clone(), "/")).push(Router::with_path("counter").get(Glue(e.clone(), "/counter"))).push(Router::with_path("chat").get(Glue(e.clone(), "/chat")))
        .push(Router::with_path("style.css").get(style)).push(Router::with_path("favicon.svg").get(icon))
        .push(Router::with_path("faststate/{**rest}").goal(Glue(e, "")));
    let l = TcpListener::new(o.listen).bind().await;
    Server::new(l).serve(router).await; Ok(())
}
