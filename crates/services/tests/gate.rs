//! A gate passes everything, nothing, or lets nobody in.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use edgeward_services::Gate;

/// Bytes are passed within a millisecond where they are.
const SILENCE: Duration = Duration::from_millis(300);

/// A server that gives back what it gets, a gate to it, and a connection.
fn echo() -> (Gate, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let gate = Gate::to(listener.local_addr().unwrap()).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                // it ends in whatever way the gate ends it
                let _ended = std::io::copy(&mut stream, &mut back);
            });
        }
    });
    let mut client = connect(&gate);
    assert!(answers(&mut client));
    (gate, client)
}

fn connect(gate: &Gate) -> TcpStream {
    let client = TcpStream::connect(gate.address()).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    client
}

fn answers(client: &mut TcpStream) -> bool {
    let mut answer = [0; 4];
    client.write_all(b"ping").is_ok()
        && client.read_exact(&mut answer).is_ok()
        && answer == *b"ping"
}

fn is_closed(client: &mut TcpStream) -> bool {
    match client.read(&mut [0]) {
        Ok(length) => length == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn a_cut_closes_connections_old_and_new_until_it_is_mended() {
    let (gate, mut client) = echo();
    gate.cut();
    assert!(is_closed(&mut client));
    assert!(is_closed(&mut connect(&gate)));
    gate.mend();
    assert!(answers(&mut connect(&gate)));
}

#[test]
fn a_stalled_connection_is_silent_and_goes_on_when_mended() {
    let (gate, mut client) = echo();
    gate.stall();
    let mut new = connect(&gate);
    for stream in [&mut client, &mut new] {
        stream.write_all(b"ping").unwrap();
        stream.set_read_timeout(Some(SILENCE)).unwrap();
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    }
    gate.mend();
    for stream in [&mut client, &mut new] {
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
        assert!(answers(stream));
    }
}

#[test]
fn a_stalled_connection_can_be_cut() {
    let (gate, mut client) = echo();
    gate.stall();
    gate.cut();
    assert!(is_closed(&mut client));
}

#[test]
fn the_end_of_a_gate_and_of_one_side_are_passed_on() {
    let (gate, mut client) = echo();
    let mut other = connect(&gate);
    other.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(is_closed(&mut other), "the server ends when its client has");
    assert!(answers(&mut client));
    drop(gate);
    assert!(is_closed(&mut client));
}
