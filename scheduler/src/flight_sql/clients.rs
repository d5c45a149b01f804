//! The clients of the front door. Each owns its session, its prepared statements, and the results that wait for it.
//!
//! A client is identified by the token of its handshake, else by its connection. A client's state is dropped when it
//! closes its session. Without a token it is also dropped when the connection ends, and with a token when the token was
//! unused for `session_ttl`. An unknown token is refused: a new session would not have the settings of the client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::connections::{ConnectionId, Ended};
use super::handles::StatementHandles;
use crate::error::{Error, ErrorKind};
use crate::session::{Session, Sessions};

/// Maximum number of clients (10,000: a session takes about 100 KiB).
const MAX_CLIENTS: usize = 10_000;
/// Idle time after which a token may be removed for a new client when there are `MAX_CLIENTS` clients (60 s).
const UNUSED_TOKEN: Duration = Duration::from_secs(60);

/// The state of one client.
pub(crate) struct Client {
    pub session: Arc<Session>,
    pub handles: StatementHandles,
    pub answers: Answers,
}

/// The identity of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Token(String),
    Connection(ConnectionId),
}

struct Known {
    client: Arc<Client>,
    used: Instant,
    /// Whether the client has sent a request since its handshake.
    has_asked: bool,
}

/// All clients.
pub(crate) struct Clients {
    sessions: Sessions,
    session_ttl: Duration,
    result_ttl: Duration,
    known: Mutex<HashMap<Identity, Known>>,
}

impl Clients {
    pub(crate) fn new(sessions: Sessions, session_ttl: Duration, result_ttl: Duration) -> Self {
        Self { sessions, session_ttl, result_ttl, known: Mutex::default() }
    }

    /// Makes a client with a new token.
    pub(super) fn handshake(&self) -> Result<String, Error> {
        let token = uuid::Uuid::new_v4().simple().to_string();
        self.add(Identity::Token(token.clone()), false)?;
        Ok(token)
    }

    /// The client of a request. The first request of a connection without a token makes a new client.
    pub(super) fn find(&self, identity: Identity) -> Result<Arc<Client>, Error> {
        if let Some(known) = self.lock().get_mut(&identity) {
            known.used = Instant::now();
            known.has_asked = true;
            return Ok(Arc::clone(&known.client));
        }
        match identity {
            Identity::Connection(_) => self.add(identity, true),
            Identity::Token(_) => Err(Error::Statement {
                kind: ErrorKind::Unauthenticated,
                message: format!(
                    "this session has ended, because it was closed, was unused for {} s, or the scheduler was \
                     restarted; connect again",
                    self.session_ttl.as_secs()
                ),
            }),
        }
    }

    fn add(&self, identity: Identity, has_asked: bool) -> Result<Arc<Client>, Error> {
        let mut known = self.lock();
        let displaced = if known.len() >= MAX_CLIENTS { Some(unused(&mut known).ok_or_else(too_many)?) } else { None };
        let client = Arc::new(Client {
            session: self.sessions.open(),
            handles: StatementHandles::default(),
            answers: Answers::default(),
        });
        known.insert(identity, Known { client: Arc::clone(&client), used: Instant::now(), has_asked });
        drop(known);
        drop(displaced);
        Ok(client)
    }

    /// Drops a client, and with it the queries whose results wait.
    pub(super) fn close(&self, identity: &Identity) {
        // The client is dropped after the lock is released.
        let closed = self.lock().remove(identity);
        drop(closed);
    }

    /// Drops clients whose token was unused for `session_ttl`, and results that were not fetched within `result_ttl`.
    pub(super) fn expire(&self) {
        let session_ttl = self.session_ttl;
        let is_over = |identity: &Identity, known: &mut Known| {
            // A running statement or stream holds its client. The idle time begins when it ends.
            if Arc::strong_count(&known.client) > 1 {
                known.used = Instant::now();
            }
            // A client without a token stays until its connection ends. If it expired earlier, its next request would
            // silently get a session without its settings.
            matches!(identity, Identity::Token(_)) && known.used.elapsed() >= session_ttl
        };
        let mut known = self.lock();
        let expired: Vec<_> = known.extract_if(|identity, known| is_over(identity, known)).collect();
        let clients: Vec<_> = known.values().map(|known| Arc::clone(&known.client)).collect();
        drop(known);
        drop(expired);
        clients.iter().for_each(|client| client.answers.expire(self.result_ttl));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ended for Clients {
    fn ended(&self, connection: ConnectionId) {
        self.close(&Identity::Connection(connection));
    }
}

/// Removes an idle token: first one that was never used after its handshake, else the one that was idle for longest.
/// If its client comes back, it gets an error.
fn unused(known: &mut HashMap<Identity, Known>) -> Option<Known> {
    let is_idle = |known: &Known| Arc::strong_count(&known.client) == 1 && known.used.elapsed() >= UNUSED_TOKEN;
    let idle = known.iter().filter(|(identity, known)| matches!(identity, Identity::Token(_)) && is_idle(known));
    let identity = idle.min_by_key(|(_, known)| (known.has_asked, known.used)).map(|(identity, _)| identity.clone())?;
    known.remove(&identity)
}

fn too_many() -> Error {
    Error::Statement {
        kind: ErrorKind::ResourcesExhausted,
        message: format!("{MAX_CLIENTS} sessions are open, which is the limit; try again later"),
    }
}
