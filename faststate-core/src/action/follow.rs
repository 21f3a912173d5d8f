//! The expression of `data-init`, which follows the page's topics and checks the responses to the page's requests.
//!
//! Datastar merges every 200 into the page, even one from a proxy, and waits without limit on a connection that died
//! silently. Therefore FastState's requests, and no others, pass through [`CHECKED_FETCH`]. A response that cannot come
//! from FastState fails there like a lost connection: the page keeps its content, and Datastar reports `retrying` and
//! sends the same request again.

use std::time::Duration;

use super::{Action, push_url};

/// The maximum time until a stream begins. It is shorter than the permitted silence, so that a page reconnects soon
/// after its network returns.
const HEAD_TIMEOUT: Duration = Duration::from_secs(8);

/// The permitted silence in heartbeat intervals. One late heartbeat is permitted; two missing heartbeats are not.
const SILENT_HEARTBEATS: f64 = 2.5;

/// The maximum delay of a browser's timer in milliseconds.
const MAX_TIMER_MS: u128 = i32::MAX as u128;

/// A function `(fetch, head, silence)` that replaces `fetch`. It recognises a stream by its `Accept` header, and an
/// event by its id. Both times are in milliseconds.
///
/// - A stream is aborted if its response does not begin within `head`, or if nothing arrives for `silence`, not even a
///   comment. An event is aborted if its response does not begin within `silence`; its repeat has the same id and is
///   applied once.
/// - A response that is neither an error nor an event stream, and has no header `Faststate-Version`, is not from
///   FastState. A redirect is not followed, because its target would receive the event.
/// - Nothing is cached. In Firefox, a cacheable request waits for another one with the same URL, so the stream of a
///   second window would begin only when the stream of the first one ends.
const CHECKED_FETCH: &str = "(f,d,n)=>f.own||((window.fetch=async(u,o)=>{\
    let h=o?.headers||{},s=h.Accept=='text/event-stream';\
    if(!(s||h['Faststate-Event']))return f(u,o);\
    let c=new AbortController(),t,w=n=>{clearTimeout(t);t=setTimeout(()=>c.abort(),n)};\
    o.signal?.addEventListener('abort',()=>c.abort());\
    w(s?d:n);\
    let r=await f(u,{...o,cache:'no-store',redirect:'manual',signal:c.signal}),g=r.headers;\
    if(!(r.status>399||g.has('faststate-version')||\
    (r.status==200?(g.get('content-type')||'').startsWith('text/event-stream'):false))){\
    c.abort();throw new TypeError('not an answer of FastState')}\
    clearTimeout(t);\
    if(!s||r.status!=200)return r;\
    w(n);\
    return new Response(r.body.pipeThrough(new TransformStream({\
    transform(b,q){w(n);q.enqueue(b)},flush(){clearTimeout(t)}})),r)}).own=true)";

impl Action {
    /// Returns the action that follows the topics in a stream's URL, for `data-init`. `Page::follow_action` returns the
    /// same action for a heartbeat of 15 s.
    ///
    /// The page has one stream. The stream is closed while the page is hidden. It is opened again from the cursors when
    /// the page is shown, when the stream ends, and when nothing has arrived for two and a half heartbeat intervals.
    ///
    /// The page also checks the responses to its actions and its stream. A response that is not from FastState, such as
    /// a proxy's login page, an empty 204 or JSON, counts as a lost connection: it is not merged into the page, and the
    /// request is sent again.
    #[must_use]
    pub fn follow(url: &str) -> String {
        Self::follow_within(url, Some(Duration::from_secs(15)))
    }

    /// Like [`follow`](Self::follow), for this heartbeat interval. Without heartbeats, the page cannot detect a dead
    /// stream.
    #[doc(hidden)]
    #[must_use]
    pub fn follow_within(url: &str, heartbeat: Option<Duration>) -> String {
        let mut out = Self::check_answers(heartbeat);
        out.push_str(
            ";(f=>(f(),document.addEventListener('visibilitychange',f)))\
             (()=>{el.c?.abort();document.hidden||@get(",
        );
        push_url(&mut out, url);
        out.push_str(
            ",{headers:{Accept:'text/event-stream'},openWhenHidden:true,\
             requestCancellation:el.c=new AbortController(),retry:'always',\
             retryMaxCount:Infinity,retryMaxWait:4000,\
             filterSignals:{include:/(^|\\.)_v$/,exclude:/(?!)/}})})",
        );
        out
    }

    /// Returns the action that only checks responses, for a page without a stream.
    #[doc(hidden)]
    #[must_use]
    pub fn check_answers(heartbeat: Option<Duration>) -> String {
        let silence =
            heartbeat.map_or(MAX_TIMER_MS, |heartbeat| heartbeat.mul_f64(SILENT_HEARTBEATS).as_millis());
        let silence = silence.clamp(HEAD_TIMEOUT.as_millis(), MAX_TIMER_MS);
        format!("({CHECKED_FETCH})(fetch,{},{silence})", HEAD_TIMEOUT.as_millis())
    }
}
