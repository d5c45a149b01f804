//! Ballista in one of three roles. `peer-ballista scheduler ARGUMENTS` and `peer-ballista executor ARGUMENTS` are
//! servers with Ballista's own command line. With a job as its argument, the program is the driver. It sends queries
//! to the scheduler that listens on the job's first port.
//!
//! The servers start in the same way as Ballista's own programs. They are part of this program, so that all roles use
//! one build of DataFusion.

mod driver;

use std::sync::Arc;

use ballista::prelude::*;
use ballista_core::extension::SessionConfigExt;
use ballista_core::object_store::{
    runtime_env_with_s3_support, session_config_with_s3_support, session_state_with_s3_support,
};
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::scheduler_process::start_server;
use clap::Parser;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use driver::{Job, Result};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Limit of a gRPC message in bytes. With the default of 16 MiB, results of TPC-H at scale 10 are refused.
const MESSAGE_BYTES: usize = 256 << 20;
/// Bytes of stack of each thread, the same value as in Ballista's own scheduler program.
const STACK_BYTES: usize = 32 << 20;

fn main() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().thread_stack_size(STACK_BYTES).build()?;
    let role = std::env::args().nth(1).unwrap_or_default();
    runtime.block_on(async {
        match role.as_str() {
            "scheduler" => scheduler().await,
            "executor" => executor().await,
            _ => queries().await,
        }
    })
}

async fn scheduler() -> Result<()> {
    let arguments = ballista_scheduler::config::Config::parse_from(std::env::args().skip(1));
    let address = format!("{}:{}", arguments.bind_host, arguments.bind_port).parse()?;
    let config: SchedulerConfig = arguments.try_into()?;
    let config = config
        .with_override_config_producer(Arc::new(session_config_with_s3_support))
        .with_override_session_builder(Arc::new(session_state_with_s3_support));
    let cluster = BallistaCluster::new_from_config(&config).await?;
    Ok(start_server(cluster, address, Arc::new(config)).await?)
}

async fn executor() -> Result<()> {
    let arguments = ballista_executor::config::Config::parse_from(std::env::args().skip(1));
    let mut config: ExecutorProcessConfig = arguments.try_into()?;
    config.override_config_producer = Some(Arc::new(session_config_with_s3_support));
    config.override_runtime_producer = Some(Arc::new(runtime_env_with_s3_support));
    Ok(start_executor_process(Arc::new(config)).await?)
}

async fn queries() -> Result<()> {
    let job = Job::read()?;
    let config = SessionConfig::new_with_ballista()
        .with_target_partitions(job.executors * job.cores)
        .with_ballista_grpc_client_max_message_size(MESSAGE_BYTES);
    let state = SessionStateBuilder::new().with_config(config).with_default_features().build();
    let context = SessionContext::remote_with_state(&format!("df://127.0.0.1:{}", job.ports[0]), state).await?;
    job.serve(context).await
}
