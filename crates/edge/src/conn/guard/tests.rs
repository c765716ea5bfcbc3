use std::future::poll_fn;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{advance, sleep, timeout};

use super::*;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const HOUR: Duration = Duration::from_secs(3600);

struct Rig {
    peer: DuplexStream,
    guard: Guard<DuplexStream>,
    activity: Arc<Activity>,
    traffic: Arc<Traffic>,
}

fn rig() -> Rig {
    let (peer, io) = duplex(1024);
    let (activity, traffic) = (Arc::new(Activity::new()), Arc::new(Traffic::default()));
    let guard =
        Guard::new(io, Limits::default(), Arc::clone(&activity), Some(Arc::clone(&traffic)));
    Rig { peer, guard, activity, traffic }
}

/// Reads to the end or the error, and tells the seconds from the call to it.
async fn read_out(guard: &mut Guard<DuplexStream>) -> (io::Result<Vec<u8>>, f64) {
    let start = Instant::now();
    let mut bytes = Vec::new();
    let result = guard.read_to_end(&mut bytes).await.map(|_| bytes);
    (result, start.elapsed().as_secs_f64())
}

fn assert_about(seconds: f64, expected: f64) {
    assert!((seconds - expected).abs() < 0.01, "{seconds} s instead of {expected} s");
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_late_from_its_acceptance_on() {
    let mut rig = rig();
    advance(Duration::from_secs(2)).await;
    let (result, seconds) = read_out(&mut rig.guard).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_about(seconds, 3.0);
    assert_eq!(rig.guard.read(&mut [0; 8]).await.unwrap(), 0, "it stays closed");
}

#[tokio::test(start_paused = true)]
async fn a_dribbled_head_is_late_although_bytes_come() {
    let Rig { mut peer, mut guard, .. } = rig();
    let dribble = tokio::spawn(async move {
        for &byte in GET {
            if peer.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let (result, seconds) = read_out(&mut guard).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_about(seconds, 5.0);
    dribble.abort();
}

#[tokio::test(start_paused = true)]
async fn a_later_head_is_timed_from_its_first_byte() {
    let Rig { mut peer, mut guard, .. } = rig();
    peer.write_all(GET).await.unwrap();
    let client = tokio::spawn(async move {
        sleep(Duration::from_secs(40)).await;
        peer.write_all(b"GET").await.unwrap();
        peer
    });
    let (result, seconds) = read_out(&mut guard).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_about(seconds, 45.0);
    drop(client.await);
}

#[tokio::test(start_paused = true)]
async fn a_head_after_a_split_one_has_a_time_of_its_own() {
    let Rig { mut peer, mut guard, .. } = rig();
    peer.write_all(&GET[..5]).await.unwrap();
    let client = tokio::spawn(async move {
        sleep(Duration::from_secs(4)).await;
        peer.write_all(&[&GET[5..], b"GET"].concat()).await.unwrap();
        peer
    });
    let (_, seconds) = read_out(&mut guard).await;
    assert_about(seconds, 9.0);
    drop(client.await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_cleanly() {
    let mut rig = rig();
    rig.peer.write_all(GET).await.unwrap();
    let (result, seconds) = read_out(&mut rig.guard).await;
    assert_eq!(result.unwrap(), GET);
    assert_about(seconds, 60.0);
}

#[tokio::test(start_paused = true)]
async fn a_read_puts_idleness_off() {
    let Rig { mut peer, mut guard, .. } = rig();
    peer.write_all(GET).await.unwrap();
    let client = tokio::spawn(async move {
        sleep(Duration::from_secs(50)).await;
        peer.write_all(GET).await.unwrap();
        peer
    });
    let (_, seconds) = read_out(&mut guard).await;
    assert_about(seconds, 110.0);
    drop(client.await);
}

#[tokio::test(start_paused = true)]
async fn a_write_puts_idleness_off() {
    let mut rig = rig();
    rig.peer.write_all(GET).await.unwrap();
    assert!(timeout(Duration::from_secs(50), read_out(&mut rig.guard)).await.is_err());
    rig.guard.write_all(b"answer").await.unwrap();
    let (_, seconds) = read_out(&mut rig.guard).await;
    assert_about(seconds, 60.0);
}

#[tokio::test(start_paused = true)]
async fn no_silence_counts_while_an_exchange_is_in_flight() {
    let mut rig = rig();
    rig.peer.write_all(&[GET, b"GE"].concat()).await.unwrap();
    let first = Activity::begin(&rig.activity);
    let second = Activity::begin(&rig.activity);
    assert!(timeout(HOUR, read_out(&mut rig.guard)).await.is_err());
    drop(first);
    assert!(timeout(HOUR, read_out(&mut rig.guard)).await.is_err());
    rig.peer.write_all(&GET[2..]).await.unwrap();
    assert!(timeout(HOUR, read_out(&mut rig.guard)).await.is_err());
    drop(second);
    let (result, seconds) = read_out(&mut rig.guard).await;
    assert!(result.is_ok());
    assert_about(seconds, 60.0);
}

#[tokio::test(start_paused = true)]
async fn idleness_is_noticed_without_another_read() {
    let Rig { mut peer, mut guard, activity, .. } = rig();
    peer.write_all(GET).await.unwrap();
    let exchange = Activity::begin(&activity);
    let reader = tokio::spawn(async move { read_out(&mut guard).await });
    sleep(Duration::from_secs(90)).await;
    drop(exchange);
    let (result, seconds) = reader.await.unwrap();
    assert!(result.is_ok());
    assert_about(seconds, 150.0);
}

#[tokio::test(start_paused = true)]
async fn the_pace_of_a_body_is_left_to_the_service() {
    let mut rig = rig();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    rig.peer.write_all(head).await.unwrap();
    assert!(timeout(HOUR, read_out(&mut rig.guard)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn http2_has_the_same_deadlines() {
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for (sent, expected) in
        [(&preface[..20], 5.0), (preface, 5.0), (&[preface, &settings[..]].concat(), 60.0)]
    {
        let mut rig = rig();
        rig.peer.write_all(sent).await.unwrap();
        let (_, seconds) = read_out(&mut rig.guard).await;
        assert_about(seconds, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_nothing_is_cut_off() {
    let mut rig = rig();
    rig.guard.write_all(&[0; 1024]).await.unwrap();
    let start = Instant::now();
    let error = rig.guard.write_all(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_about(start.elapsed().as_secs_f64(), 30.0);
    assert_eq!(rig.traffic.written.load(Ordering::Relaxed), 1024);
}

#[tokio::test(start_paused = true)]
async fn a_slow_peer_is_not_a_standing_one() {
    let Rig { mut peer, mut guard, .. } = rig();
    let reader = tokio::spawn(async move {
        for _ in 0..20 {
            sleep(Duration::from_secs(29)).await;
            peer.read_exact(&mut [0; 100]).await.unwrap();
        }
        peer
    });
    guard.write_all(&[0; 3000]).await.unwrap();
    drop(reader.await);
}

/// A socket that is never done.
struct Stuck;

impl AsyncRead for Stuck {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Stuck {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn flush_and_shutdown_are_timed_too() {
    let guard = || Guard::new(Stuck, Limits::default(), Arc::new(Activity::new()), None);
    let timed_out = |result: io::Result<()>| result.unwrap_err().kind() == io::ErrorKind::TimedOut;
    let start = Instant::now();
    assert!(timed_out(guard().flush().await));
    assert!(timed_out(guard().shutdown().await));
    assert_about(start.elapsed().as_secs_f64(), 60.0);
}

#[tokio::test(start_paused = true)]
async fn vectored_writes_are_passed_on_and_counted() {
    let mut rig = rig();
    assert!(rig.guard.is_write_vectored());
    let bufs = [IoSlice::new(b"ab"), IoSlice::new(b"cde")];
    let written =
        poll_fn(|cx| Pin::new(&mut rig.guard).poll_write_vectored(cx, &bufs)).await.unwrap();
    assert_eq!(written, 5);
    assert_eq!(rig.traffic.written.load(Ordering::Relaxed), 5);
    rig.peer.write_all(GET).await.unwrap();
    rig.guard.read_exact(&mut [0; GET.len()]).await.unwrap();
    assert_eq!(rig.traffic.read.load(Ordering::Relaxed), GET.len() as u64);
}

#[tokio::test(start_paused = true)]
async fn poison_is_read_in_pieces_and_is_the_end() {
    let mut rig = rig();
    rig.peer.write_all(b"GE\n /smuggled HTTP/1.1\r\n\r\n").await.unwrap();
    let mut read: Vec<u8> = Vec::new();
    let mut buf = [0; 2];
    loop {
        let count = rig.guard.read(&mut buf).await.unwrap();
        if count == 0 {
            break;
        }
        read.extend(&buf[..count]);
    }
    assert_eq!(read, [b"GE", POISON].concat());
}

#[tokio::test(start_paused = true)]
async fn an_oversized_frame_is_an_error() {
    let mut rig = rig();
    let frame = [0, 0x40, 1, 0, 0, 0, 0, 0, 1];
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    rig.peer.write_all(&[&preface[..], &frame].concat()).await.unwrap();
    let (result, _) = read_out(&mut rig.guard).await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::InvalidData);
    rig.peer.write_all(&[0; 9]).await.unwrap();
    assert_eq!(rig.guard.read(&mut [0; 9]).await.unwrap(), 0, "nothing is read after it");
}

#[tokio::test(start_paused = true)]
async fn a_refused_peer_may_finish_sending() {
    let Rig { mut peer, mut guard, .. } = rig();
    peer.write_all(b"\n").await.unwrap();
    read_out(&mut guard).await.0.unwrap();
    let closing = tokio::spawn(async move { guard.shutdown().await });
    peer.write_all(&[0; 100_000]).await.unwrap();
    drop(peer);
    timeout(Duration::from_millis(900), closing).await.unwrap().unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_peer_in_the_middle_of_a_request_may_finish_it() {
    let heads =
        ["POST / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n"];
    for head in heads {
        let Rig { mut peer, mut guard, .. } = rig();
        peer.write_all(head.as_bytes()).await.unwrap();
        guard.read_exact(&mut vec![0; head.len()]).await.unwrap();
        let closing = tokio::spawn(async move { guard.shutdown().await });
        peer.write_all(&[0; 100_000]).await.unwrap();
        drop(peer);
        timeout(Duration::from_millis(900), closing).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn lingering_has_an_end() {
    let start = Instant::now();
    let mut rig = rig();
    rig.peer.write_all(b"\n").await.unwrap();
    read_out(&mut rig.guard).await.0.unwrap();
    rig.guard.shutdown().await.unwrap();
    assert_about(start.elapsed().as_secs_f64(), 1.0);

    let Rig { mut peer, mut guard, .. } = self::rig();
    peer.write_all(b"\n").await.unwrap();
    read_out(&mut guard).await.0.unwrap();
    let sending = tokio::spawn(async move { peer.write_all(&vec![0; 10 * MAX_LINGER]).await });
    guard.shutdown().await.unwrap();
    assert_about(start.elapsed().as_secs_f64(), 1.0);
    drop(guard);
    assert!(sending.await.unwrap().is_err());

    let mut rig = self::rig();
    rig.peer.write_all(GET).await.unwrap();
    rig.guard.read_exact(&mut [0; GET.len()]).await.unwrap();
    rig.guard.shutdown().await.unwrap();
    assert_about(start.elapsed().as_secs_f64(), 1.0);
}
