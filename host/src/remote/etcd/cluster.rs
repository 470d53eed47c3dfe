//! The servers of a cluster, and asking them until there is a definite answer.
//!
//! All requests go to one server, until it fails or falls silent; then all go to the next one. So a
//! server that hangs costs each request one attempt at most, and those who watch a key through it
//! learn to move on from [`Cluster::moved`].
//!
//! A server of another cluster knows nothing of the locks of this one, and would grant them once more.
//! So if the URL has several servers, each is asked for its cluster at first, and so is each that grants
//! a lease, without which no lock is held: a connection that breaks may lead elsewhere the next time.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use etcd_client::{Client, ConnectOptions, ResponseHeader};
use tokio::sync::{OnceCell, watch};
use tokio::time::{sleep, timeout};

use super::config::Config;
use super::error::Failure;
use super::pause::Pause;
use crate::sync::{Mutex, lock};

/// The shortest and the longest time in which a server has to answer before the next one is asked.
const ATTEMPT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

const STRANGER: &str = "belongs to another cluster";

/// The connections to a cluster.
pub(super) struct Cluster {
    servers: Vec<Connection>,
    options: ConnectOptions,
    /// How often the requests have moved on to the next server.
    turn: watch::Sender<u64>,
    /// How many answers there have been, from any of them.
    answers: AtomicU64,
    /// Whether the client's user is known to the servers, or there was any other answer.
    reached: AtomicBool,
    request_timeout: Duration,
    /// The cluster of the first server that was asked.
    identity: OnceLock<u64>,
}

struct Connection {
    url: String,
    /// Made by the first request that needs it. Others wait for it: a login is costly for a server.
    client: Mutex<Arc<OnceCell<Client>>>,
}

impl Cluster {
    pub(super) fn new(config: &Config) -> Self {
        let connection = |url: &String| Connection {
            url: url.clone(),
            client: Mutex::default(),
        };
        Self {
            servers: config.endpoints.iter().map(connection).collect(),
            options: config.options.clone(),
            turn: watch::Sender::new(0),
            answers: AtomicU64::new(0),
            reached: AtomicBool::new(false),
            request_timeout: config.request_timeout,
            identity: OnceLock::new(),
        }
    }

    /// When a request that begins now has failed.
    pub(super) fn request_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.request_timeout)
    }

    /// How many requests were answered.
    #[cfg(test)]
    pub(super) fn answered(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// Changes when the requests move on to another server, or to a new connection.
    pub(super) fn moved(&self) -> watch::Receiver<u64> {
        self.turn.subscribe()
    }

    /// Repeats a request until there is a definite answer, or until `until`. **The request must be
    /// one that is safe to repeat**: an earlier copy may have been carried out, and may still be.
    pub(super) async fn ask<T, F>(
        &self,
        until: Option<Instant>,
        request: impl Fn(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let mut pause = Pause::default();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let left = until.map(|at| at.saturating_duration_since(Instant::now()));
            let unknown = match self.once(left.unwrap_or(Duration::MAX), &request).await {
                Err(Failure::Unknown(e)) => e,
                definite => return definite,
            };
            let pause = pause.next();
            let over = left.is_some_and(|_| until.is_some_and(|at| at <= Instant::now() + pause));
            if over || until.is_some() && self.is_nowhere(attempts, &unknown) {
                return Err(Failure::Unknown(unknown));
            }
            sleep(pause).await;
        }
    }

    /// Makes a request, once.
    pub(super) async fn once<T, F>(
        &self,
        limit: Duration,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, etcd_client::Error>>,
    {
        let turn = *self.turn.borrow();
        let server = &self.servers[(turn % self.servers.len() as u64) as usize];
        let answers = self.answers.load(Ordering::Relaxed);
        let attempt = (self.request_timeout / 4).clamp(ATTEMPT.0, ATTEMPT.1);
        let answer = timeout(attempt.min(limit), async {
            let client = self.client(server).await?;
            request(client).await.map_err(Failure::from)
        });
        let failure = match answer.await {
            Ok(Ok(answer)) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                self.reached.store(true, Ordering::Relaxed);
                return Ok(answer);
            }
            Ok(Err(failure)) => failure,
            // It is slow, but it answers.
            Err(_) if self.answers.load(Ordering::Relaxed) != answers => {
                return Err(server.silent());
            }
            Err(_) => server.silent(),
        };
        let Failure::Unknown(e) = failure else {
            self.reached.store(true, Ordering::Relaxed);
            return Err(failure);
        };
        self.leave(turn, server);
        let why = format!("{}: {e}", server.url);
        Err(Failure::Unknown(io::Error::new(e.kind(), why)))
    }

    async fn client(&self, server: &Connection) -> Result<Client, Failure> {
        let client = Arc::clone(&lock(&server.client));
        client
            .get_or_try_init(|| self.connect(server))
            .await
            .cloned()
    }

    /// Only a login asks the server, if it is the only one.
    async fn connect(&self, server: &Connection) -> Result<Client, Failure> {
        let client = Client::connect([&server.url], Some(self.options.clone())).await?;
        if self.servers.len() == 1 {
            return Ok(client);
        }
        match client.maintenance_client().status().await {
            Ok(status) => self.check(status.header())?,
            Err(e) => match Failure::from(e) {
                // A server that does not tell is checked when it grants a lease.
                Failure::Refused(_) => {}
                failure => return Err(failure),
            },
        }
        Ok(client)
    }

    /// Fails if an answer comes from another cluster than the first one. The next server is asked then.
    pub(super) fn check(&self, answer: Option<&ResponseHeader>) -> Result<(), etcd_client::Error> {
        let Some(answer) = answer.filter(|_| self.servers.len() > 1) else {
            return Ok(());
        };
        let found = answer.cluster_id();
        match *self.identity.get_or_init(|| found) == found {
            true => Ok(()),
            false => Err(etcd_client::Error::Internal(STRANGER.into())),
        }
    }

    /// The servers that belong to another cluster than that of the locks, as far as they answer.
    pub(super) async fn strangers(&self) -> Vec<String> {
        let mut strangers = Vec::new();
        // A login is costly.
        if self.servers.len() == 1 {
            return strangers;
        }
        for server in &self.servers {
            let connected = timeout(ATTEMPT.1, self.connect(server)).await;
            if let Ok(Err(Failure::Unknown(e))) = connected
                && e.to_string().contains(STRANGER)
            {
                strangers.push(format!("{} {STRANGER}, and is not used", server.url));
            }
        }
        strangers
    }

    /// Moves on to the next server; if it is the only one, with a new connection and login.
    fn leave(&self, turn: u64, server: &Connection) {
        self.turn.send_if_modified(|now| {
            let first = *now == turn;
            if first {
                *lock(&server.client) = Arc::default();
                *now += 1;
            }
            first
        });
    }

    /// Whether no server has ever answered, and now each has refused to be called.
    fn is_nowhere(&self, attempts: usize, why: &io::Error) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionReset, Other, TimedOut, UnexpectedEof};
        let was_called = [BrokenPipe, ConnectionReset, Other, TimedOut, UnexpectedEof];
        attempts >= self.servers.len()
            && !self.reached.load(Ordering::Relaxed)
            && !was_called.contains(&why.kind())
    }
}

impl Connection {
    fn silent(&self) -> Failure {
        let why = "the server does not answer";
        Failure::Unknown(io::Error::new(io::ErrorKind::TimedOut, why))
    }
}
