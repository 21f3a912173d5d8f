//! Clients that disconnect.

use std::net::SocketAddr;

use super::{
    Failure, ensure, followed_stream::FollowedStream, health, item, new_id, no_streams_are_open,
    open_streams_are, page, tool,
};
use crate::suites::until;

/// The server forgets a disconnected client within 10 s, whether the connection was closed or reset (law 6).
pub async fn disconnected_client_is_forgotten(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "a disconnected client is forgotten (law 6)";
    no_streams_are_open(address).await?;
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
        open_streams_are(address, 6, "each open stream is counted").await?;
        // The health response is cached for a second.
        until("each open stream is counted", || async move {
            Ok((health(address).await?["followers"].as_u64() >= Some(6)).then_some(()))
        })
        .await?;
        match round {
            // Close the connections.
            0 => drop(streams),
            1 => {
                for stream in streams {
                    stream.answer.into_connection().reset()?;
                }
            }
            // Close them while frames are in flight.
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
        no_streams_are_open(address).await?;
    }
    // A client that disconnects before it has read anything is forgotten as well.
    for _ in 0..20 {
        let client = page(address, PROMISE);
        let mut connection = client.connect().await?;
        let head = client.head("GET", "/faststate/sse?states=counter,note");
        connection.write(format!("{head}\r\n").as_bytes()).await?;
        connection.reset()?;
    }
    no_streams_are_open(address).await
}

/// An event is applied although its client disconnects before the response.
pub async fn event_of_disconnected_client_is_applied(address: SocketAddr) -> Result<(), Failure> {
    const PROMISE: &str = "an event is applied although its client has disconnected";
    for resets in [true, false] {
        let id = new_id();
        let open = format!("/faststate/item/{id}/open");
        let client = tool(address, PROMISE);
        let mut connection = client.connect().await?;
        let head = client.head("POST", &format!("/faststate/item/{id}/late?name=late"));
        connection.write(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await?;
        let arrived = tool(address, PROMISE).send("POST", &open, "").await?.status();
        ensure!(arrived == 200, PROMISE, "the wait for it was answered with {arrived}");
        if resets {
            connection.reset()?;
        } else {
            drop(connection);
        }
        // After two more requests the server has noticed the disconnect.
        health(address).await?;
        health(address).await?;
        let opened = tool(address, PROMISE).send("POST", &format!("{open}?through=true"), "").await?.status();
        ensure!(opened == 200, PROMISE, "opening the gate was answered with {opened}");
        let id = &id;
        until(PROMISE, || async move { Ok((item(address, id).await?["name"] == "late").then_some(())) })
            .await?;
    }
    Ok(())
}
