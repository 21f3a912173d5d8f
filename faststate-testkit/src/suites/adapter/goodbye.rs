//! Clients that go away.

use std::net::SocketAddr;

use super::{
    Failure, ensure, followed_stream::FollowedStream, health, item, new_id, nobody_follows, page,
    streams_are, tool,
};
use crate::suites::until;

/// A stream whose client has gone is left within 10 s, however it went (law 6).
pub async fn disconnected_client_is_forgotten(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a client that goes away is left (law 6)";
    nobody_follows(address).await?;
    for round in 0..4 {
        let mut streams = Vec::new();
        for _ in 0..6 {
            let mut client = page(address, PROMISE);
            let target = "/faststate/sse?states=counter,note,counter.shown";
            streams.push(FollowedStream::showing(&mut client, target, "<p id=\"shown\"></p>").await?);
        }
        for stream in &mut streams {
            stream.until(|page| page.signals().contains_key("note")).await?;
        }
        streams_are(address, 6, "each stream counts").await?;
        // The probes' figures may be a second old.
        until("each stream counts", || async move {
            Ok((health(address).await?["followers"].as_u64() >= Some(6)).then_some(()))
        })
        .await?;
        match round {
            // Closed.
            0 => drop(streams),
            1 => {
                for stream in streams {
                    stream.answer.into_connection().reset()?;
                }
            }
            // While frames are on their way.
            2 => {
                for amount in [1, -1, 2, -2] {
                    let uri = format!("/faststate/counter/increment?amount={amount}");
                    tool(address, PROMISE).send("POST", &uri, "").await?;
                    streams.pop();
                }
                drop(streams);
            }
            _ => {
                let reset = streams.split_off(3);
                drop(streams);
                for stream in reset {
                    stream.answer.into_connection().reset()?;
                }
            }
        }
        nobody_follows(address).await?;
    }
    // Nor does one stay that goes before it has read anything.
    for _ in 0..20 {
        let client = page(address, PROMISE);
        let mut connection = client.connect().await?;
        let head = client.head("GET", "/faststate/sse?states=counter,note");
        connection.write(format!("{head}\r\n").as_bytes()).await?;
        connection.reset()?;
    }
    nobody_follows(address).await
}

/// An event whose client hangs up before it is answered is applied nevertheless.
pub async fn event_of_disconnected_client_is_applied(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event whose client hangs up is applied";
    for resets in [true, false] {
        let id = new_id();
        let open = format!("/faststate/item/{id}/open");
        let client = tool(address, PROMISE);
        let mut connection = client.connect().await?;
        let head = client.head("POST", &format!("/faststate/item/{id}/late?name=late"));
        connection.write(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await?;
        let arrived = tool(address, PROMISE).send("POST", &open, "").await?.status();
        ensure!(arrived == 200, PROMISE, "waiting for it was answered {arrived}");
        if resets {
            connection.reset()?;
        } else {
            drop(connection);
        }
        // By now the server has noticed.
        health(address).await?;
        health(address).await?;
        let opened = tool(address, PROMISE).send("POST", &format!("{open}?through=true"), "").await?.status();
        ensure!(opened == 200, PROMISE, "letting it through was answered {opened}");
        let id = &id;
        until(PROMISE, || async move { Ok((item(address, id).await?["name"] == "late").then_some(())) })
            .await?;
    }
    Ok(())
}
