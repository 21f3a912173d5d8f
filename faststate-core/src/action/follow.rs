//! The expression for `data-init`: it follows the page's topics, and checks the answers to the page's requests.
//!
//! Datastar merges any 200 into the page, including a proxy's, and waits without limit on a connection that died
//! silently. Therefore the requests of this library, and no others, go through [`CHECKED`]. A response that cannot
//! come from FastState fails there like a lost connection: the page keeps its content, Datastar reports `retrying`
//! and sends the same request again.

use std::time::Duration;

use super::{Action, push_url};

/// How long a stream may take to begin. Shorter than `SILENCE`, so that a page is back soon after its network is.
const HEAD: Duration = Duration::from_secs(8);

/// How many heartbeats' time may pass in silence: one that is late is no alarm, two that are missing are.
const SILENCE: f64 = 2.5;

/// What a browser's timers hold at most, in milliseconds.
const LONGEST: u128 = i32::MAX as u128;

/// `(fetch, head, silence)`: a stream is known by its `Accept`, an event by its id.
///
/// - A stream is cut when nothing has arrived for `silence`, comments included, or no head for `head`. An event is
///   cut when it has no head after `silence`; its repeat has the same id and counts once.
/// - A response that is neither an error nor an event stream and has no version is not from FastState. A redirect is
///   not followed, because its target would receive the event.
/// - Nothing is cached: Firefox lets a request wait for another one of the same URL that it may store, and the stream
///   of a second window would begin when that of the first ends.
const CHECKED: &str = "(f,d,n)=>f.own||((window.fetch=async(u,o)=>{\
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
    /// The action that follows the topics of a stream's URL, for `data-init`: the same as
    /// `Page::follow_action` writes for a heartbeat of 15 s.
    ///
    /// The page has one stream. It is closed while the page is hidden, and opened again from the cursors when the
    /// page is shown, when it ends, and when nothing has arrived for two and a half heartbeats.
    ///
    /// From then on the page checks the answers to its actions and to its stream: one that is not from this library
    /// (the login page of a proxy, an empty 204, JSON) counts as a lost connection, so that it is not merged into
    /// the page, and the request is sent again.
    #[must_use]
    pub fn follow(url: &str) -> String {
        Self::follow_within(url, Some(Duration::from_secs(15)))
    }

    /// The same for this heartbeat. Without one, a quiet stream looks like a dead one.
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

    /// For a page without a stream: its actions' answers are checked all the same.
    #[doc(hidden)]
    #[must_use]
    pub fn check_answers(heartbeat: Option<Duration>) -> String {
        let silence = heartbeat.map_or(LONGEST, |heartbeat| heartbeat.mul_f64(SILENCE).as_millis());
        let silence = silence.clamp(HEAD.as_millis(), LONGEST);
        format!("({CHECKED})(fetch,{},{silence})", HEAD.as_millis())
    }
}
