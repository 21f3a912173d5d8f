//! Runs `suites::adapter` against a minimal adapter and against mutants: deliberately broken adapters that the suite must
//! catch.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]

mod flaw;
mod incoming;
mod pages;
mod registry;
mod server;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use faststate_testkit::suites::{
    Failure,
    adapter::{self, drain_drops_nothing},
    fixture,
};
use futures::future::join_all;

use self::{flaw::Flaw, registry::UnguardedFollow, server::Server};

/// Starts a server of the fixture, with or without a flaw.
fn serve(flaw: Flaw) -> Server {
    let registry = fixture::registry().unwrap();
    let endpoint = match flaw {
        Flaw::FollowsBeforeAuthorising => fixture::endpoint(Arc::new(UnguardedFollow(registry))),
        _ => fixture::endpoint(registry),
    };
    Server::start(endpoint, flaw)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minimal_adapter_passes_the_suite() {
    let server = serve(Flaw::None);
    adapter::all(server.address()).await.unwrap();
    // A second run passes on the state that the first one left.
    adapter::all(server.address()).await.unwrap();
    adapter::pages_belong_to_their_viewer(server.address()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn law_15_minimal_adapter_drains_without_loss() {
    drain(Flaw::None).await.unwrap();
}

async fn drain(flaw: Flaw) -> Result<(), Failure> {
    let server = serve(flaw);
    let address = server.address();
    drain_drops_nothing(address, || server.stop(Duration::from_millis(500))).await
}

/// Runs the checks for a mutant: all of them, or one if the flaw breaks several.
async fn suite(flaw: Flaw, address: SocketAddr) -> Result<(), Failure> {
    match flaw {
        Flaw::CollectsFrames | Flaw::HoldsOneFrameBack => {
            let reply = adapter::streamed_reply_arrives_incrementally(address).await;
            let failure = reply.expect_err("the suite did not notice that a reply is held back");
            assert!(failure.promise().contains("arrives while it is written"), "{failure}");
            adapter::frames_arrive_without_delay(address).await
        }
        Flaw::CutsStreamsAtTheEnd | Flaw::CutsAllWhenItStops => drain(flaw).await,
        Flaw::ShowsWhatFailed
        | Flaw::AnswersEveryPageWithOk
        | Flaw::MarksNoPages
        | Flaw::MarksPagesTwice
        | Flaw::SharesPages
        | Flaw::MakesAPagePerArgument => adapter::pages_belong_to_their_viewer(address).await,
        _ => adapter::all(address).await,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mutant_is_caught() {
    let mutants = [
        (Flaw::LeaksInternals, "exposes only its id"),
        (Flaw::PatchesIn500, "patches in a 200"),
        (Flaw::DropsTheLastFrame, "a finished response is complete"),
        (Flaw::FollowsBeforeAuthorising, "forbidden topic is not followed"),
        (Flaw::KeepsFollowers, "disconnected client is forgotten"),
        (Flaw::CollectsFrames, "a frame arrives without delay"),
        (Flaw::HoldsOneFrameBack, "a frame arrives without delay"),
        (Flaw::IgnoresTheGuard, "cross-site request is refused"),
        (Flaw::DecodesIdsTwice, "percent-decoded once"),
        (Flaw::NeverDecodesIds, "percent-decoded once"),
        (Flaw::IgnoresCookies, "cookie identifies one session"),
        (Flaw::SetsNoCookies, "cookie identifies one session"),
        (Flaw::ReadsOneCookieHeader, "cookie identifies one session"),
        (Flaw::HidesAddresses, "streams of one address is capped"),
        (Flaw::CutsBodies, "a body over 64 KiB"),
        (Flaw::RefusesChunks, "a body over 64 KiB"),
        (Flaw::TakesHalfABody, "a truncated body"),
        (Flaw::TakesBodiesForRequests, "not parsed as a request"),
        (Flaw::ForgetsAllow, "405 and the right `Allow`"),
        (Flaw::DropsHeaders, "patches in a 200"),
        (Flaw::LetsProxiesTransform, "headers forbid caching"),
        (Flaw::HidesLastEventId, "after its `Last-Event-ID`"),
        (Flaw::DropsQueries, "reads its input"),
        (Flaw::TellsForbiddenFromUnknown, "get the same response"),
        (Flaw::Compresses, "headers forbid caching"),
        (Flaw::CutsStreamsAtTheEnd, "a drain drops nothing"),
        (Flaw::CutsAllWhenItStops, "a drain drops nothing"),
        (Flaw::LeaksInNotices, "exposes only its id"),
        (Flaw::ShowsWhatFailed, "is shown as a page"),
        (Flaw::AnswersEveryPageWithOk, "is shown as a page"),
        (Flaw::MarksNoPages, "starts a session"),
        (Flaw::MarksPagesTwice, "starts a session"),
        (Flaw::SharesPages, "starts a session"),
        (Flaw::MakesAPagePerArgument, "from the rendered version"),
    ];
    // All at once, because a mutant spends most of its time waiting.
    let outcomes = mutants.map(|(flaw, promise)| async move {
        let server = serve(flaw);
        // Boxed, because this many concurrent suites do not fit on a thread's stack.
        let outcome = Box::pin(suite(flaw, server.address())).await;
        (flaw, promise, outcome)
    });
    let mut wrong = Vec::new();
    for (flaw, promise, outcome) in join_all(outcomes).await {
        match outcome {
            Err(failure) if failure.promise().contains(promise) => {}
            Err(failure) => wrong.push(format!("{flaw:?} was caught for another reason: {failure}")),
            Ok(()) => wrong.push(format!("the suite did not notice {flaw:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
