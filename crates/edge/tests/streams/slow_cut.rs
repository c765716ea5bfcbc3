//! Readers that stand still are closed: at once when their stream is cut, and after a while anyway.

use std::time::Duration;

use edgeward_edge::conn::Limits;
use edgeward_testkit::upstream::UpstreamStream;
use edgeward_testkit::{Conn, Piece, soon};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::h2;
use crate::standing::{Watch, narrow, push, scene, turn_to_tls};
use crate::tools::{CUT_DEADLINE, end_session, no_streams, read_to_end};

/// How long a reader may stand still in these tests.
const STALL: Duration = Duration::from_millis(500);

fn impatient() -> Limits {
    Limits { write_stall_ms: 500, ..Limits::default() }
}

/// Waits until the upstream sees the end of a stream whose end began at `since`.
async fn gone(what: &str, since: Instant, stream: &UpstreamStream) {
    stream.gone().await;
    let took = since.elapsed();
    println!("{what}: closed after {} ms", took.as_millis());
    assert!(took < CUT_DEADLINE, "{what}: {took:?}");
}

#[tokio::test]
async fn a_cut_closes_the_connection_of_a_reader_that_stands_still() {
    let (upstream, edge, agent) = scene(|builder| builder).await;
    let session = agent.session(&edge).await;
    let mut conn = Conn::over(narrow(edge.address()).await);
    let mut watch = Watch::begin(&edge);
    conn.send(&agent.signed("GET", "/v1/").in_session(&session).build()).await;
    assert_eq!(conn.head().await.status, 200);
    let stream = std::sync::Arc::new(upstream.next_stream().await);
    let pushing = tokio::spawn({
        let stream = std::sync::Arc::clone(&stream);
        async move { push(&stream, usize::MAX).await }
    });
    watch.until_standing().await;

    let since = Instant::now();
    end_session(&edge, &agent, &session).await;
    gone("a cut, HTTP/1.1", since, &stream).await;
    no_streams(&edge).await;
    pushing.await.unwrap();
    // What was queued in the edge is not sent after it, and what came never looks whole.
    let (body, end) = read_to_end(&mut conn).await;
    assert_eq!(end, Piece::Broken);
    let read = usize::try_from(watch.read()).unwrap();
    println!("{read} bytes were read from the upstream, {} came", body.len());
    assert!(body.len() < read, "all {read} bytes came");
}

#[tokio::test]
async fn a_cut_closes_the_connection_of_a_reader_over_http2_that_stands_still() {
    let (upstream, edge, agent) = scene(|builder| builder).await;
    let session = agent.session(&edge).await;
    let (client, _driver) = h2::connect(&edge).await;
    let mut watch = Watch::begin(&edge);
    let asks = agent.signed("GET", "/v1/").in_session(&session);
    let mut body = client.send(&asks).await.into_body();
    let stream = std::sync::Arc::new(upstream.next_stream().await);
    let pushing = tokio::spawn({
        let stream = std::sync::Arc::clone(&stream);
        async move { push(&stream, usize::MAX).await }
    });
    watch.until_standing().await;

    let since = Instant::now();
    end_session(&edge, &agent, &session).await;
    gone("a cut, HTTP/2", since, &stream).await;
    no_streams(&edge).await;
    pushing.await.unwrap();
    let mut came = 0;
    let end = loop {
        match h2::piece(&mut body).await {
            Ok(Some(bytes)) => came += bytes.len(),
            end => break end,
        }
    };
    end.expect_err("bytes never look whole");
    assert!(came <= 65_535, "{came} bytes came of a window of 65,535");
}

#[tokio::test]
async fn a_reader_that_stands_still_for_too_long_is_closed() {
    let (upstream, mut edge, agent) = scene(|builder| builder.limits(impatient())).await;
    let mut conn = Conn::over(narrow(edge.address()).await);
    let since = Instant::now();
    conn.send(&agent.signed("GET", "/v1/").build()).await;
    let stream = upstream.next_stream().await;
    soon("the stream's end", push(&stream, usize::MAX)).await;
    gone("standing still, HTTP/1.1", since, &stream).await;
    assert!(since.elapsed() >= STALL);
    no_streams(&edge).await;

    let (tls, _folder) = turn_to_tls(&mut edge).await;
    let mut conn = tls.over(narrow(edge.address()).await).await;
    let since = Instant::now();
    conn.send(&agent.signed("GET", "/v1/").build()).await;
    let stream = upstream.next_stream().await;
    soon("the stream's end", push(&stream, usize::MAX)).await;
    gone("standing still, TLS", since, &stream).await;
    assert!(since.elapsed() >= STALL);
    no_streams(&edge).await;
}

#[tokio::test]
async fn a_reader_over_http2_that_stands_still_for_too_long_is_closed() {
    let (upstream, edge, agent) = scene(|builder| builder.limits(impatient())).await;
    let (client, _driver) = h2::connect(&edge).await;
    let since = Instant::now();
    let _body = client.send(&agent.signed("GET", "/v1/")).await.into_body();
    let stream = upstream.next_stream().await;
    soon("the stream's end", push(&stream, usize::MAX)).await;
    gone("standing still, HTTP/2", since, &stream).await;
    assert!(since.elapsed() >= STALL);
    no_streams(&edge).await;
}

#[tokio::test]
async fn an_answer_over_http2_that_nobody_takes_closes_the_connection() {
    let (_upstream, edge, agent) = scene(|builder| builder.limits(impatient())).await;
    let (client, driver) = h2::connect_with(&edge, 0).await;
    let since = Instant::now();
    let answer = client.send(&agent.signed("GET", "/agent/protected/echo")).await;
    let answer_to_a_refusal = client.send(&agent.signed("GET", "/v1/").wrong_signature()).await;
    soon("the connection's end", driver).await.unwrap();
    let took = since.elapsed();
    println!("answers that nobody takes, HTTP/2: closed after {} ms", took.as_millis());
    assert!(took >= STALL && took < CUT_DEADLINE, "{took:?}");
    drop((answer, answer_to_a_refusal));
}

#[tokio::test]
async fn a_reader_that_is_slow_and_steady_is_not_closed() {
    let patience = Limits { write_stall_ms: 1_500, ..Limits::default() };
    let (upstream, edge, agent) = scene(|builder| builder.limits(patience)).await;
    let mut io = tokio::net::TcpStream::connect(edge.address()).await.unwrap();
    io.write_all(&agent.signed("GET", "/v1/").build()).await.unwrap();
    let stream = upstream.next_stream().await;
    let pushing = tokio::spawn(async move {
        push(&stream, usize::MAX).await;
        stream
    });
    // 16 KiB in 50 ms, for four times as long as it might stand still. A kernel that takes megabytes
    // at once takes nothing more for all that time.
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut piece = vec![0; 16 * 1024];
    for _ in 0..120 {
        beat.tick().await;
        io.read_exact(&mut piece).await.expect("the stream goes on");
    }
    assert!(!pushing.is_finished(), "the stream was closed");
}
