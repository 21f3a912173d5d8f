//! Law 6: the memory of an idle stream of a site with an identity closure, measured in a process of its own.
#![allow(clippy::unwrap_used, reason = "a test fails by it")]
#![cfg(target_os = "linux")]

#[path = "server/plain.rs"]
mod plain;

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use faststate_http::endpoint::Limits;
use faststate_testkit::suites::fixture;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::plain::FastState;

/// The most memory of an idle stream, in bytes.
const MAX_STREAM_BYTES: usize = 4 * 1024;

/// Returns the process's resident memory, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// Opens streams and waits until each has begun. The clients are plain sockets.
fn follow(address: SocketAddr, streams: usize) -> Vec<TcpStream> {
    let cookie = "0".repeat(75);
    let request = format!(
        "GET /faststate/sse?states=counter HTTP/1.1\r\nhost: {address}\r\naccept: text/event-stream\r\n\
         datastar-request: true\r\ncookie: faststate={cookie}\r\n\r\n"
    );
    let open = |_| {
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let (mut begin, mut read) = ([0; 4096], 0);
        while !String::from_utf8_lossy(&begin[..read]).contains("\"_v\"") {
            read += client.read(&mut begin[read..]).unwrap();
        }
        client
    };
    (0..streams).map(open).collect()
}

#[test]
fn law_06_idle_stream_with_identity_takes_at_most_4_kib() {
    const STREAMS: usize = 1_000;
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let limits = Limits { streams_per_address: 0, streams_per_session: 0, ..Limits::default() };
            let endpoint = fixture::endpoint(fixture::registry().unwrap()).limits(limits);
            let site = FastState::from_endpoint(endpoint.heartbeat(Duration::ZERO));
            site.serve_until(listener, (), std::future::pending()).await.unwrap();
        });
    });
    let _warm = follow(address, 200);
    let before = resident();
    let streams = follow(address, STREAMS);
    let each = (resident() - before) / STREAMS;
    println!("{each} bytes for each stream");
    assert!(each <= MAX_STREAM_BYTES, "{each} bytes for each stream");
    drop(streams);
}
