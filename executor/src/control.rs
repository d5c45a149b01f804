//! The connection to the scheduler: registers, sends heartbeats and reports, carries out the scheduler's messages, and
//! attaches again when the connection breaks.

use std::sync::Arc;
use std::time::Duration;

use hwacha_model::{ExecutorId, QueryId, TaskId};
use hwacha_proto::MAX_MESSAGE_BYTES;
use hwacha_proto::control::control_client::ControlClient;
use hwacha_proto::control::executor_message::Message as Up;
use hwacha_proto::control::scheduler_message::Message as Down;
use hwacha_proto::control::{self, ExecutorMessage, SchedulerMessage};
use hwacha_storage::{Stores, TableStore};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

use crate::config::ExecutorConfig;
use crate::error::Error;
use crate::reports::Reports;
use crate::tasks::Tasks;

const HEARTBEAT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause before the second attempt to attach. It doubles up to `LONGEST_BACKOFF`.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// Heartbeats after which unacknowledged reports are sent again.
const RESEND_HEARTBEATS: u32 = 3;
/// Messages that wait to be sent to the scheduler. If there are more, the sender waits.
const QUEUE: usize = 64;

/// The id, the address and the settings that this process registers with.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub executor: ExecutorId,
    pub address: String,
    pub config: ExecutorConfig,
}

/// The state of the connection, for other parts of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub attached: bool,
    pub epoch: Option<u64>,
}

/// Keeps the executor attached until the scheduler refuses or evicts it. If `drain` is true, tells each connection
/// that the executor wants to stop.
pub(crate) struct Control {
    pub identity: Identity,
    pub tasks: Arc<Tasks>,
    pub reports: Arc<Reports>,
    pub link: watch::Sender<Link>,
    pub drain: watch::Receiver<bool>,
    /// The stores that tasks read from.
    pub stores: Arc<Stores>,
}

impl Control {
    /// Runs until the scheduler refuses or evicts this executor. Fails at once if the URL is not valid.
    pub(crate) async fn run(self) -> Error {
        let url = self.identity.config.scheduler.clone();
        let endpoint = match endpoint(&url) {
            Ok(endpoint) => endpoint,
            Err(error) => return error,
        };
        let mut backoff = FIRST_BACKOFF;
        loop {
            match self.attach(&endpoint).await {
                Ok(()) => backoff = FIRST_BACKOFF,
                Err(status) if status.code() == Code::FailedPrecondition => {
                    return Error::Refused { url, reason: status.message().to_owned() };
                }
                Err(status) if status.code() == Code::Aborted => {
                    self.tasks.clear();
                    return Error::Evicted;
                }
                Err(status) => tracing::warn!(%url, reason = status.message(), "not attached to the scheduler"),
            }
            self.link.send_modify(|link| link.attached = false);
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(LONGEST_BACKOFF);
        }
    }

    /// One connection, from registering to its end. `Ok` if the scheduler had registered this executor or closed the
    /// stream without an error. The next pause is then the shortest.
    async fn attach(&self, endpoint: &Endpoint) -> Result<(), Status> {
        // The timeout of the endpoint does not cover the resolution of the name.
        let connected = tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await;
        let connected = connected.map_err(|_| Status::unavailable("the scheduler does not answer"))?;
        let channel = connected.map_err(|error| Status::unavailable(innermost(&error)))?;
        let (up, receiver) = mpsc::channel(QUEUE);
        send(&up, Up::Register(self.register())).await?;
        let mut client: ControlClient<Channel> = ControlClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let down = client.attach(ReceiverStream::new(receiver)).await?.into_inner();
        self.reports.send_again();
        match self.serve(&up, down).await {
            Err(status)
                if self.link.borrow().attached
                    && !matches!(status.code(), Code::FailedPrecondition | Code::Aborted) =>
            {
                tracing::warn!(reason = status.message(), "the connection to the scheduler broke");
                Ok(())
            }
            ended => ended,
        }
    }

    async fn serve(
        &self,
        up: &mpsc::Sender<ExecutorMessage>,
        mut down: Streaming<SchedulerMessage>,
    ) -> Result<(), Status> {
        let mut heartbeat = tokio::time::interval(HEARTBEAT);
        let mut beats = 0;
        let mut drain = self.drain.clone();
        drain.mark_changed();
        loop {
            tokio::select! {
                message = down.message() => match message? {
                    Some(SchedulerMessage { message: Some(message) }) => self.carry_out(message)?,
                    Some(SchedulerMessage { message: None }) => {}
                    None => return Ok(()),
                },
                () = self.reports.wait() => {
                    let reports = self.reports.take_unsent();
                    if !reports.is_empty() {
                        send(up, Up::Reports(control::Reports { reports })).await?;
                    }
                }
                _ = heartbeat.tick() => {
                    beats += 1;
                    if beats % RESEND_HEARTBEATS == 0 {
                        self.reports.send_again();
                    }
                    send(up, Up::Heartbeat(self.heartbeat())).await?;
                }
                Ok(()) = drain.changed() => {
                    if *drain.borrow_and_update() {
                        send(up, Up::Drain(control::Drain {})).await?;
                    }
                }
            }
        }
    }

    fn register(&self) -> control::Register {
        let Identity { executor, address, config } = &self.identity;
        control::Register {
            executor: executor.0,
            build: config.build.clone(),
            address: address.clone(),
            cores: config.cores as u32,
            slots: config.slots,
            memory_limit_bytes: config.memory_limit_bytes as u64,
            known: self.tasks.known_and_held(),
            cache: config.cache.as_ref().map(|cache| cache.identity()),
        }
    }

    fn heartbeat(&self) -> control::Heartbeat {
        let Identity { config, .. } = &self.identity;
        // Rounded down: an executor without a free slot gets no task at all.
        let (stuck, cores) = (self.tasks.stuck_threads().min(config.cores), config.cores.max(1));
        let blocked_slots = (config.slots as usize * stuck / cores) as u32;
        control::Heartbeat { known: self.tasks.known(), blocked_slots }
    }

    /// An error means that the scheduler has given this executor up.
    fn carry_out(&self, message: Down) -> Result<(), Status> {
        match message {
            Down::Evicted(_) => return Err(Status::aborted("declared lost")),
            Down::Registered(registered) => self.registered(registered),
            Down::Acknowledge(acknowledge) => self.reports.acknowledge(&acknowledge.numbers),
            Down::Launch(launch) => {
                self.add_stores(&launch.stores);
                self.tasks.launch(launch);
            }
            Down::Abort(abort) => {
                abort.attempts.into_iter().for_each(|attempt| self.tasks.abort(TaskId::from(attempt)));
            }
            Down::Release(release) => self.tasks.release(QueryId(release.query)),
        }
        Ok(())
    }

    /// Takes the stores of tables, before plans name them.
    fn add_stores(&self, stores: &[control::TableStore]) {
        let read = |store: &control::TableStore| match TableStore::of_text(&store.store) {
            Ok(table) => Some((store.name.clone(), table)),
            Err(problem) => {
                tracing::error!(problem, "the options of a table are not used");
                None
            }
        };
        self.stores.receive_tables(stores.iter().filter_map(read).collect());
    }

    /// A new epoch means that the scheduler has restarted. It does not know the old queries, so their tasks are
    /// dropped.
    fn registered(&self, control::Registered { epoch, storage }: control::Registered) {
        let sections: Vec<_> = storage.into_iter().map(|section| (section.location, section.settings)).collect();
        if let Err(problem) = self.stores.receive(&sections) {
            tracing::error!(problem, "the scheduler's [storage] sections are not used");
        }
        let before = self.link.borrow().epoch;
        if before.is_some_and(|before| before != epoch) {
            tracing::info!(epoch, "the scheduler has restarted; dropping the tasks of the one before");
            self.tasks.clear();
        }
        self.link.send_replace(Link { attached: true, epoch: Some(epoch) });
    }
}

fn endpoint(url: &str) -> Result<Endpoint, Error> {
    let address = url.replacen("grpc://", "http://", 1);
    Ok(Endpoint::from_shared(address)
        .ok()
        .filter(|endpoint| endpoint.uri().host().is_some() && endpoint.uri().scheme_str() == Some("http"))
        .ok_or_else(|| Error::SchedulerUrl { url: url.to_owned() })?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(CONNECT_TIMEOUT)
        .keep_alive_timeout(CONNECT_TIMEOUT)
        .keep_alive_while_idle(true))
}

async fn send(up: &mpsc::Sender<ExecutorMessage>, message: Up) -> Result<(), Status> {
    let message = ExecutorMessage { message: Some(message) };
    up.send(message).await.map_err(|_| Status::unavailable("the connection is closed"))
}

/// The innermost source of a transport error, because the outer errors only say that there was one.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}
