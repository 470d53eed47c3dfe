//! A connection to a server that does to it what networks do.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Traffic {
    /// They arrive.
    Flows,
    /// Requests arrive, and answers are lost.
    LosesAnswers,
    /// They are kept, and arrive once the traffic flows again.
    Stalls,
    /// Requests are kept, and answers arrive.
    KeepsRequests,
    /// Requests arrive, and answers are kept.
    KeepsAnswers,
    /// Each connection is reset as soon as it is used.
    Breaks,
}

/// A proxy on the loopback interface. Its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    server: String,
    traffic: Traffic,
    ended: bool,
    /// Both ends of each connection.
    open: Vec<(TcpStream, TcpStream)>,
}

impl Proxy {
    /// Forwards connections to `server`, a `HOST:PORT`.
    ///
    /// # Panics
    ///
    /// If the system has no port for it.
    pub fn new(server: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                server: server.to_owned(),
                traffic: Traffic::Flows,
                ended: false,
                open: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let state = accepting.state();
                if state.ended {
                    return;
                }
                let server = state.server.clone();
                drop(state);
                if let Ok(server) = TcpStream::connect(&server) {
                    accepting.connect(client, server);
                }
            }
        });
        Self { address, shared }
    }

    /// Where it listens, as `HOST:PORT`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Forwards connections to another server from now on, and ends those that are open.
    pub fn lead_to(&self, server: &str) {
        let mut state = self.shared.state();
        server.clone_into(&mut state.server);
        state.close();
    }

    /// Changes what becomes of the bytes. Connections that have lost some end.
    pub fn set(&self, traffic: Traffic) {
        let mut state = self.shared.state();
        if state.traffic == Traffic::LosesAnswers || traffic == Traffic::Breaks {
            state.close();
        }
        state.traffic = traffic;
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ended = true;
        state.close();
        self.shared.changed.notify_all();
        drop(state);
        // The thread that accepts looks up.
        let _ = TcpStream::connect(self.address);
    }
}

impl Traffic {
    fn keeps(self, answers: bool) -> bool {
        match self {
            Self::Stalls => true,
            Self::KeepsRequests => !answers,
            Self::KeepsAnswers => answers,
            Self::Flows | Self::LosesAnswers | Self::Breaks => false,
        }
    }
}

impl State {
    fn close(&mut self) {
        for (client, server) in self.open.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let clone = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        self.state().open.push((clone(&client), clone(&server)));
        for (from, to, answers) in [
            (clone(&client), clone(&server), false),
            (server, client, true),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.forward(from, to, answers));
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, answers: bool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            let stalls = |state: &mut State| !state.ended && state.traffic.keeps(answers);
            let state = self.changed.wait_while(self.state(), stalls);
            let traffic = state.unwrap_or_else(PoisonError::into_inner).traffic;
            match traffic {
                Traffic::LosesAnswers if answers => {}
                Traffic::Breaks => break,
                _ => match to.write_all(&buffer[..count]) {
                    Ok(()) => {}
                    Err(_) => break,
                },
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}
