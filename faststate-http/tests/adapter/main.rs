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
        (Flaw::LeaksInternals, "an internal error tells an id"),
        (Flaw::PatchesIn500, "patches in a 200"),
        (Flaw::DropsTheLastFrame, "nothing is lost at the end"),
        (Flaw::FollowsBeforeAuthorising, "not yours is not followed"),
        (Flaw::KeepsFollowers, "that goes away is left"),
        (Flaw::CollectsFrames, "a frame arrives at once"),
        (Flaw::HoldsOneFrameBack, "a frame arrives at once"),
        (Flaw::IgnoresTheGuard, "another site's requests are refused"),
        (Flaw::DecodesIdsTwice, "percent-decoded once"),
        (Flaw::NeverDecodesIds, "percent-decoded once"),
        (Flaw::IgnoresCookies, "a cookie is a session"),
        (Flaw::SetsNoCookies, "a cookie is a session"),
        (Flaw::ReadsOneCookieHeader, "a cookie is a session"),
        (Flaw::HidesAddresses, "an address's streams have a cap"),
        (Flaw::CutsBodies, "at most 64 KiB"),
        (Flaw::RefusesChunks, "at most 64 KiB"),
        (Flaw::TakesHalfABody, "a body that breaks off"),
        (Flaw::TakesBodiesForRequests, "not taken for a request"),
        (Flaw::ForgetsAllow, "names the right one"),
        (Flaw::DropsHeaders, "patches in a 200"),
        (Flaw::LetsProxiesTransform, "head says what it is"),
        (Flaw::HidesLastEventId, "after its `Last-Event-ID`"),
        (Flaw::DropsQueries, "takes its input"),
        (Flaw::TellsForbiddenFromUnknown, "answer alike"),
        (Flaw::Compresses, "head says what it is"),
        (Flaw::CutsStreamsAtTheEnd, "a drain drops nothing"),
        (Flaw::CutsAllWhenItStops, "a drain drops nothing"),
        (Flaw::LeaksInNotices, "an internal error tells an id"),
        (Flaw::ShowsWhatFailed, "fails with is a page"),
        (Flaw::AnswersEveryPageWithOk, "fails with is a page"),
        (Flaw::MarksNoPages, "begins a session"),
        (Flaw::MarksPagesTwice, "begins a session"),
        (Flaw::SharesPages, "for its viewer alone"),
        (Flaw::MakesAPagePerArgument, "follows it from there"),
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
