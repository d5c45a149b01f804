//! Puts queries to a Ballista cluster whose scheduler listens on the job's first port.

mod driver;

use ballista::prelude::*;
use ballista_core::extension::SessionConfigExt;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use driver::{Job, Result};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The default of 16 MiB refuses results of TPC-H at scale 10.
const MESSAGE_BYTES: usize = 256 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let job = Job::read()?;
    let config = SessionConfig::new_with_ballista()
        .with_target_partitions(job.executors * job.cores)
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let context = SessionContext::remote_with_state(&format!("df://127.0.0.1:{}", job.ports[0]), state).await?;
    job.serve(context).await
}
