//! Load: requests that are bytes already, over a fixed number of connections, one at a time on each.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

/// What a run showed.
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) latencies_us: Vec<f64>,
}

/// The length of the first whole HTTP/1.1 message in `bytes`, framed by Content-Length.
pub(crate) fn message_length(bytes: &[u8]) -> Option<usize> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).unwrap();
    let body = text
        .lines()
        .find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().unwrap())
        })
        .unwrap_or(0);
    (bytes.len() >= head + body).then_some(head + body)
}

/// Sends all of `requests`; every answer must have the expected status.
pub(crate) async fn run(
    address: &str,
    requests: Vec<Vec<u8>>,
    connections: usize,
    expected: u16,
) -> Run {
    let queue = Rc::new(RefCell::new(requests));
    let latencies = Rc::new(RefCell::new(Vec::with_capacity(queue.borrow().len())));
    let local = LocalSet::new();
    let mut streams = Vec::new();
    for _ in 0..connections {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    let expected = format!("HTTP/1.1 {expected} ");
    let started = Instant::now();
    for mut stream in streams {
        let (queue, latencies, expected) =
            (Rc::clone(&queue), Rc::clone(&latencies), expected.clone());
        local.spawn_local(async move {
            let mut buffer = Vec::with_capacity(16 * 1024);
            loop {
                let Some(request) = queue.borrow_mut().pop() else {
                    return;
                };
                let sent = Instant::now();
                stream.write_all(&request).await.unwrap();
                let length = loop {
                    if let Some(length) = message_length(&buffer) {
                        break length;
                    }
                    assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "closed early");
                };
                assert!(
                    buffer.starts_with(expected.as_bytes()),
                    "{}",
                    String::from_utf8_lossy(&buffer[..length])
                );
                buffer.drain(..length);
                latencies.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e6);
            }
        });
    }
    // Load and upstream never sleep while a run lasts: else waking them would be charged to the
    // process under test, and the slower it is the more often.
    let awake = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    local.await;
    awake.abort();
    let seconds = started.elapsed().as_secs_f64();
    Run { seconds, latencies_us: Rc::try_unwrap(latencies).unwrap().into_inner() }
}
