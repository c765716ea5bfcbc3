//! Streams that drop and come back.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use edgeward_client::{Error, Event, EventStream, StreamOptions};
use edgeward_wire::Code;
use serde_json::json;
use support::{FakeClock, Piece, Reply, Scene, soon};
use tokio::sync::mpsc;

fn open(scene: &Scene) -> EventStream {
    scene.agent.stream("/v1/events", StreamOptions::default()).unwrap()
}

async fn next(events: &mut EventStream) -> Event {
    soon(events.next()).await.expect("an event").unwrap()
}

#[tokio::test]
async fn a_stream_resumes_after_the_last_complete_event_and_waits_as_asked() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![
            Piece::Bytes("retry: 3000\nid: 1\ndata: a\n\nid: 2\nda"),
            Piece::Bytes("ta: b\n\nid: 3\ndata: never finished"),
            Piece::Break,
        ]),
        1 => Reply::stream(vec![Piece::Bytes("id: 3\ndata: c\n\n")]),
        _ => Reply::stream(vec![Piece::Bytes("id: 4\nevent: bye\ndata: d\n\n")]),
    })
    .await;
    let mut events = open(&scene);
    let mut got = Vec::new();
    for _ in 0..4 {
        let event = next(&mut events).await;
        got.push((event.id, event.event, event.data));
    }
    let expected =
        [("1", "message", "a"), ("2", "message", "b"), ("3", "message", "c"), ("4", "bye", "d")];
    let expected =
        expected.map(|(id, event, data)| (id.to_owned(), event.to_owned(), data.to_owned()));
    assert_eq!(got, expected);
    let seen = scene.edge.seen();
    let resumed: Vec<&str> = seen.iter().map(|seen| seen.header("last-event-id")).collect();
    assert_eq!(resumed, ["", "2", "3"]);
    assert!(seen.iter().all(|seen| seen.header("accept") == "text/event-stream"));
    let bounds = Duration::from_millis(3000)..=Duration::from_millis(4500);
    let pauses: Vec<Duration> =
        scene.clock.waits().into_iter().filter(|wait| bounds.contains(wait)).collect();
    assert_eq!(pauses.len(), 2, "{:?}", scene.clock.waits());
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_stream_starts_where_the_caller_says() {
    let scene = Scene::new(|_, _| Reply::stream(vec![Piece::Bytes("data: x\n\n")])).await;
    let mut options = StreamOptions::default();
    options.last_event_id = Some("41".to_owned());
    options.resume = false;
    let mut events = scene.agent.stream("/v1/events", options).unwrap();
    assert_eq!(next(&mut events).await.id, "41");
    assert!(soon(events.next()).await.is_none(), "a clean end is the end without resuming");
    assert_eq!(scene.edge.seen()[0].header("last-event-id"), "41");
    assert_eq!(scene.edge.seen().len(), 1);
}

#[tokio::test]
async fn an_idle_stream_keeps_its_session_alive() {
    let (pieces, receiver) = mpsc::unbounded_channel();
    let stream = Mutex::new(Some(receiver));
    let scene = Scene::with(
        FakeClock::still(),
        |_| {},
        move |seen, _| {
            (seen.path() == "/v1/events")
                .then(|| Reply::Stream(stream.lock().unwrap().take().unwrap()))
        },
    )
    .await;
    soon(scene.agent.open_session()).await.unwrap();
    let mut events = open(&scene);
    pieces.send(Piece::Bytes("data: a\n\n")).ok().unwrap();
    next(&mut events).await;
    let waiting = tokio::spawn(async move { next(&mut events).await });
    let extensions = |seen: &[support::Seen]| {
        seen.iter().filter(|seen| seen.path() == "/agent/session/extend").count()
    };
    for nth in 1..=2 {
        scene.clock.advance(400_000);
        scene.edge.until(|seen| extensions(seen) == nth).await;
        // Only once the answer is taken up does the next extension come due.
        let ends = support::START_MS + 400_000 * nth as u64 + 600_000;
        while scene.agent.session().unwrap().ends_at_ms != ends {
            tokio::task::yield_now().await;
        }
    }
    pieces.send(Piece::Bytes("data: b\n\n")).ok().unwrap();
    assert_eq!(soon(waiting).await.unwrap().data, "b");
    assert_eq!(scene.edge.lines().iter().filter(|line| line.contains("events")).count(), 1);
    scene.edge.check_signatures();
}

#[tokio::test]
async fn a_stream_ends_when_the_agent_is_blocked() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("data: a\n\n"), Piece::Break]),
        _ => Reply::refusal(Code::AgentBlocked),
    })
    .await;
    let mut events = open(&scene);
    next(&mut events).await;
    let error = soon(events.next()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(Code::AgentBlocked));
    assert!(soon(events.next()).await.is_none());
    assert_eq!(scene.edge.seen().len(), 2);
}

#[tokio::test]
async fn the_edges_own_stream_ends_with_agent_blocked_and_an_upstreams_does_not() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("event: agent.blocked\ndata: {}\n\ndata: after\n\n")]),
        _ => None,
    })
    .await;
    let mut own = scene.agent.stream("/agent/events", StreamOptions::default()).unwrap();
    assert_eq!(next(&mut own).await.event, "agent.blocked");
    assert!(soon(own.next()).await.is_none());
    let mut upstream = open(&scene);
    assert_eq!(next(&mut upstream).await.event, "agent.blocked");
    assert_eq!(next(&mut upstream).await.data, "after");
}

#[tokio::test]
async fn a_stream_outlives_a_drain_and_a_restart() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("id: 1\ndata: a\n\n")]),
        1..=5 => Some(Reply::Refusal(Code::Draining, json!({"retry_after_ms": 2000}))),
        _ => Reply::stream(vec![Piece::Bytes("id: 2\ndata: b\n\n")]),
    })
    .await;
    let mut events = open(&scene);
    next(&mut events).await;
    assert_eq!(next(&mut events).await.data, "b");
    assert_eq!(scene.edge.seen().last().unwrap().header("last-event-id"), "1");
}

#[tokio::test]
async fn a_stream_comes_back_no_sooner_than_the_edge_asks() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("id: 1\ndata: a\n\n")]),
        // More than a call waits for by itself.
        1 => Some(Reply::Refusal(Code::TooManyStreams, json!({"retry_after_ms": 50_000}))),
        _ => Reply::stream(vec![Piece::Bytes("id: 2\ndata: b\n\n")]),
    })
    .await;
    let mut events = open(&scene);
    next(&mut events).await;
    assert_eq!(next(&mut events).await.data, "b");
    let asked = Duration::from_secs(50)..Duration::from_secs(60);
    assert!(
        scene.clock.waits().iter().any(|wait| asked.contains(wait)),
        "{:?}",
        scene.clock.waits()
    );
}

#[tokio::test]
async fn a_stream_that_never_comes_back_ends() {
    let adjust = |settings: &mut edgeward_client::Settings| settings.stream_tries = 3;
    let scene = Scene::with(FakeClock::hurrying(), adjust, |_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("data: a\n\n")]),
        _ => Reply::stream(vec![]),
    })
    .await;
    let mut events = open(&scene);
    next(&mut events).await;
    assert!(matches!(soon(events.next()).await, Some(Err(Error::Protocol(_)))));
    assert!(soon(events.next()).await.is_none());
    assert_eq!(scene.edge.seen().len(), 4);
}

#[tokio::test]
async fn a_server_can_say_that_a_stream_is_over() {
    let scene = Scene::new(|_, nth| match nth {
        0 => Reply::stream(vec![Piece::Bytes("data: a\n\n")]),
        _ => Some(Reply::Plain(204, vec![], String::new())),
    })
    .await;
    let mut events = open(&scene);
    next(&mut events).await;
    assert!(soon(events.next()).await.is_none());
    assert_eq!(scene.edge.seen().len(), 2);
}

#[tokio::test]
async fn an_answer_that_is_no_stream_is_an_error() {
    for status in [200, 404, 503] {
        let scene =
            Scene::new(move |_, _| Some(Reply::Plain(status, vec![], "no".to_owned()))).await;
        let error = soon(open(&scene).next()).await.unwrap().unwrap_err();
        assert!(matches!(error, Error::NotAStream { status: got } if got == status), "{error}");
        assert_eq!(scene.edge.seen().len(), 1);
    }
}
