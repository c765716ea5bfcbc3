//! A TCP proxy that can be cut.

use std::collections::HashMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::ServiceError;
use crate::error::Context as _;

/// How long the way to the server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A TCP proxy on a port of 127.0.0.1 in front of a server, whose connections can be cut or stalled.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    passage: Arc<Passage>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Cut,
    Gone,
}

#[derive(Debug)]
struct Passage {
    to: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    mode: Mode,
    /// Both ends of each connection, for cutting it.
    connections: HashMap<u64, [TcpStream; 2]>,
    number: u64,
}

impl Gate {
    /// Opens a gate to a server, which need not be there yet.
    ///
    /// # Errors
    ///
    /// When no port can be had.
    pub fn to(server: SocketAddr) -> Result<Self, ServiceError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).to_do("open a port")?;
        let address = listener.local_addr().to_do("open a port")?;
        let state = State { mode: Mode::Open, connections: HashMap::new(), number: 0 };
        let passage =
            Arc::new(Passage { to: server, state: Mutex::new(state), changed: Condvar::new() });
        let for_acceptor = Arc::clone(&passage);
        let acceptor = std::thread::spawn(move || for_acceptor.accept(&listener));
        Ok(Self { address, passage, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections and, until it is [mended](Self::mend), each new one.
    pub fn cut(&self) {
        self.passage.turn(Mode::Cut);
    }

    /// Passes nothing any more, in either direction, not even that one side has closed. Connections stay
    /// as they are, new ones are taken; what comes meanwhile is passed when it is [mended](Self::mend).
    pub fn stall(&self) {
        self.passage.turn(Mode::Stalled);
    }

    /// Passes everything again.
    pub fn mend(&self) {
        self.passage.turn(Mode::Open);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.passage.turn(Mode::Gone);
        // wakes the thread that waits for a connection
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE);
        if let (Ok(_), Some(acceptor)) = (woken, self.acceptor.take()) {
            let _ended = acceptor.join();
        }
    }
}

impl Passage {
    fn turn(&self, mode: Mode) {
        let mut state = self.state();
        state.mode = mode;
        if matches!(mode, Mode::Cut | Mode::Gone) {
            for stream in state.connections.values().flatten() {
                // an error here is that it is closed
                let _closed = stream.shutdown(Shutdown::Both);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.state().mode == Mode::Gone {
                return;
            }
            // without a stream, its maker has given up, or there are too many
            let Ok((client, _)) = accepted else { continue };
            let passage = Arc::clone(self);
            // it ends when either side closes, or we do; an error is that of a connection
            std::thread::spawn(move || {
                let _ended = passage.connect(client);
            });
        }
    }

    /// One connection, from its beginning to its end.
    fn connect(self: &Arc<Self>, client: TcpStream) -> io::Result<()> {
        if !self.open_or_cut() {
            return Ok(());
        }
        let server = TcpStream::connect_timeout(&self.to, PATIENCE)?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ends = [client.try_clone()?, server.try_clone()?];
        let number = {
            let mut state = self.state();
            if matches!(state.mode, Mode::Cut | Mode::Gone) {
                return Ok(());
            }
            state.number += 1;
            let number = state.number;
            state.connections.insert(number, ends);
            number
        };
        std::thread::scope(|scope| {
            scope.spawn(|| self.pump(&client, &server));
            self.pump(&server, &client);
        });
        self.state().connections.remove(&number);
        Ok(())
    }

    /// Passes on what comes from one side until that closes.
    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer);
            if !self.open_or_cut() {
                break;
            }
            match read.ok().and_then(|length| buffer.get(..length)) {
                Some([]) => {
                    let _closed = to.shutdown(Shutdown::Write);
                    return;
                }
                Some(bytes) if to.write_all(bytes).is_ok() => {}
                Some(_) | None => break,
            }
        }
        for stream in [from, to] {
            let _closed = stream.shutdown(Shutdown::Both);
        }
    }

    /// Waits while it is stalled; says whether it is open then.
    fn open_or_cut(&self) -> bool {
        let state = self
            .changed
            .wait_while(self.state(), |state| state.mode == Mode::Stalled)
            .unwrap_or_else(PoisonError::into_inner);
        state.mode == Mode::Open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
