//! The clients of the front door. Each owns its session, what it has prepared, and the results that wait for it.
//!
//! A client is known by the token of its handshake, else by its connection. What it owns is dropped when its connection
//! ends, when it closes its session, or when its token has not been used for some time. A token that is not known is
//! refused: a new session in its place would have other settings than the client counts on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answers::Answers;
use super::connections::{ConnectionId, Ended};
use super::handles::StatementHandles;
use crate::error::{Error, ErrorKind};
use crate::session::{Session, Sessions};

/// Clients at once (10,000: a session takes about 100 KiB).
const MAX_CLIENTS: usize = 10_000;
/// How long a token may stay unused before it makes room for others, when there are so many.
const UNUSED_TOKEN: Duration = Duration::from_secs(60);

/// What one client has.
pub(crate) struct Client {
    pub session: Arc<Session>,
    pub handles: StatementHandles,
    pub answers: Answers,
}

/// By what a client is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    Token(String),
    Connection(ConnectionId),
}

struct Known {
    client: Arc<Client>,
    used: Instant,
    /// Whether it has asked for anything since its handshake.
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

    /// The client of a request. A connection that asks for the first time is a new client.
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
                    "this session has ended: it was closed, was unused for {} s, or the scheduler has started anew; connect again",
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

    /// Drops what a client has, and with it the queries whose results wait.
    pub(super) fn close(&self, identity: &Identity) {
        // What is removed is dropped after the lock is given back.
        let closed = self.lock().remove(identity);
        drop(closed);
    }

    /// Drops clients that have not been heard for long, and results that nobody has fetched in time.
    pub(super) fn expire(&self) {
        let session_ttl = self.session_ttl;
        let is_over = |identity: &Identity, known: &mut Known| {
            // A statement or stream that runs holds its client; the idle time begins when it ends.
            if Arc::strong_count(&known.client) > 1 {
                known.used = Instant::now();
            }
            // A connection's client goes with it: one that came back would have lost its settings without a word.
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

/// Takes out a token that has not been used for some time: rather one whose client has only shaken hands, else the one
/// that has not been used for longest. Its client is told, should it come again.
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
