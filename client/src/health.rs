//! Asks a scheduler or an executor whether it is live or ready.

use std::time::Duration;

use hwacha_proto::health::{LIVE, READY};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::connection::{address, channel};
use crate::error::{Error, ErrorKind};

/// The question to a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Whether the process answers.
    Live,
    /// Whether the process takes work.
    Ready,
}

/// Asks the process at `url` within `deadline`. A process that starts or stops is not ready.
///
/// # Errors
///
/// The URL is wrong, no process answers in time, or the process is no scheduler or executor.
pub async fn health(url: &str, asked: Health, deadline: Duration) -> Result<bool, Error> {
    let address = address(url)?;
    let service = match asked {
        Health::Live => LIVE,
        Health::Ready => READY,
    };
    let silent = || {
        let message = format!("no process answers at {address} within {} s", deadline.as_secs());
        Error { kind: ErrorKind::Unavailable, message, source: None }
    };
    let ask = async {
        // A wrong URL was refused above.
        let mut client = HealthClient::new(channel(url, &address).await.map_err(|_| silent())?);
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await;
        let answer = answer.map_err(|_| {
            Error::invalid(format!("the server at {address} tells nothing about its health; is it a Hwacha process?"))
        })?;
        Ok(answer.into_inner().status() == ServingStatus::Serving)
    };
    tokio::time::timeout(deadline, ask).await.map_err(|_| silent())?
}
