//! The flaws of mutants, applied to requests and responses.

use faststate_core::BoxError;
use faststate_http::endpoint::ReplyBody;
use faststate_testkit::suites::fixture;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Either, Full};

/// The flaw of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    LeaksInternals,
    PatchesIn500,
    DropsTheLastFrame,
    FollowsBeforeAuthorising,
    KeepsFollowers,
    CollectsFrames,
    HoldsOneFrameBack,
    IgnoresTheGuard,
    DecodesIdsTwice,
    NeverDecodesIds,
    IgnoresCookies,
    SetsNoCookies,
    ReadsOneCookieHeader,
    HidesAddresses,
    CutsBodies,
    RefusesChunks,
    TakesHalfABody,
    TakesBodiesForRequests,
    ForgetsAllow,
    DropsHeaders,
    LetsProxiesTransform,
    HidesLastEventId,
    DropsQueries,
    TellsForbiddenFromUnknown,
    Compresses,
    CutsStreamsAtTheEnd,
    CutsAllWhenItStops,
    LeaksInNotices,
    ShowsWhatFailed,
    AnswersEveryPageWithOk,
    MarksNoPages,
    MarksPagesTwice,
    SharesPages,
    MakesAPagePerArgument,
}

impl Flaw {
    /// Returns the request that the endpoint gets instead of this one.
    pub(crate) fn request<B>(self, mut request: Request<B>) -> Request<B> {
        let path = request.uri().path().to_owned();
        let query = request.uri().query().map(str::to_owned);
        let headers = request.headers_mut();
        match self {
            Self::IgnoresTheGuard => {
                headers.remove(header::ORIGIN);
                headers.insert("sec-fetch-site", HeaderValue::from_static("same-origin"));
            }
            Self::IgnoresCookies => drop(headers.remove(header::COOKIE)),
            Self::ReadsOneCookieHeader => {
                let first = headers.get(header::COOKIE).and_then(|cookie| cookie.to_str().ok());
                let first = first.and_then(|cookies| cookies.split(';').next());
                if let Some(first) = first.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
                    headers.insert(header::COOKIE, first);
                }
            }
            Self::HidesLastEventId => drop(headers.remove("last-event-id")),
            Self::DecodesIdsTwice => {
                // Like an adapter that passes on a path which its framework has already decoded.
                let decoded = percent_encoding::percent_decode_str(&path).decode_utf8_lossy().into_owned();
                let legal = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#');
                let path: String = decoded
                    .bytes()
                    .map(|byte| match byte {
                        byte if legal(byte) => char::from(byte).to_string(),
                        byte => format!("%{byte:02x}"),
                    })
                    .collect();
                *request.uri_mut() = with(&path, query.as_deref());
            }
            Self::NeverDecodesIds => {
                *request.uri_mut() = with(&path.replace('%', "%25"), query.as_deref());
            }
            Self::DropsQueries => *request.uri_mut() = with(&path, None),
            _ => {}
        }
        request
    }

    /// Returns the response that the client gets instead of this one.
    pub(crate) async fn answer(
        self,
        answer: Response<ReplyBody>,
        keeper: bool,
    ) -> Response<Either<ReplyBody, Full<bytes::Bytes>>> {
        let (mut head, body) = answer.into_parts();
        match self {
            Self::LeaksInternals if head.status == StatusCode::INTERNAL_SERVER_ERROR => {
                let id = "{\"id\":\"1\",\"status\":500,\"title\":\"Internal error\",\"detail\":";
                let leak = format!("{id}\"panicked: {}\"}}", fixture::INTERNAL);
                return Response::from_parts(head, Either::Right(leak.into()));
            }
            Self::LeaksInNotices if body.size_hint().exact().is_some() => {
                let mut text = body.collect().await.unwrap().to_bytes().to_vec();
                if text.windows(9).any(|part| part == b"Reference") {
                    text.extend_from_slice(
                        format!("event: x\ndata: panicked: {}\n\n", fixture::INTERNAL).as_bytes(),
                    );
                }
                return Response::from_parts(head, Either::Right(text.into()));
            }
            Self::PatchesIn500 if body.size_hint().exact().is_some() => {
                let bytes = body.collect().await.unwrap().to_bytes();
                if bytes.windows(17).any(|part| part == b"faststate-problem") {
                    head.status = StatusCode::INTERNAL_SERVER_ERROR;
                }
                return Response::from_parts(head, Either::Right(bytes.into()));
            }
            Self::SetsNoCookies => drop(head.headers.remove(header::SET_COOKIE)),
            Self::ForgetsAllow => drop(head.headers.remove(header::ALLOW)),
            Self::LetsProxiesTransform if head.headers.contains_key("x-accel-buffering") => {
                head.headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            }
            Self::Compresses if head.headers.contains_key("x-accel-buffering") => {
                head.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            Self::DropsHeaders => {
                head.headers.retain_known(&[header::CONTENT_TYPE, header::SET_COOKIE, header::ALLOW]);
            }
            Self::TellsForbiddenFromUnknown if head.status == StatusCode::NOT_FOUND && keeper => {
                let text = r#"{"status":404,"title":"Not found","detail":"there is no such vault"}"#;
                return Response::from_parts(head, Either::Right(text.into()));
            }
            _ => {}
        }
        Response::from_parts(head, Either::Left(body))
    }
}

trait RetainKnown {
    fn retain_known(&mut self, known: &[header::HeaderName]);
}

impl RetainKnown for http::HeaderMap {
    fn retain_known(&mut self, known: &[header::HeaderName]) {
        let names: Vec<_> = self.keys().filter(|name| !known.contains(name)).cloned().collect();
        names.iter().for_each(|name| drop(self.remove(name)));
    }
}

fn with(path: &str, query: Option<&str>) -> Uri {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    target.parse().map_err(|error| -> BoxError { format!("{target}: {error}").into() }).unwrap()
}
