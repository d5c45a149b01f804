//! datafusion-distributed in one of two roles. `peer-distributed worker PORT CORES` is a worker. With a job as its
//! argument, the program is the driver, which plans queries for the workers on the job's ports.

mod driver;

use std::net::{Ipv4Addr, SocketAddr};

use async_trait::async_trait;
use datafusion::common::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_distributed::{DistributedExt, SessionStateBuilderExt, Worker, WorkerResolver};
use driver::{Job, Result};
use mimalloc::MiMalloc;
use tonic::transport::Server;
use url::Url;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const STACK_BYTES: usize = 16 << 20;

fn main() -> Result<()> {
    let arguments: Vec<_> = std::env::args().collect();
    match &arguments[1..] {
        [role, port, cores] if role == "worker" => {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse()?));
            let worker = Worker::default().into_worker_server();
            Ok(runtime(cores.parse()?)?.block_on(Server::builder().add_service(worker).serve(address))?)
        }
        _ => {
            let job = Job::read()?;
            runtime(1)?.block_on(coordinate(job))
        }
    }
}

fn runtime(threads: usize) -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(threads).thread_stack_size(STACK_BYTES).enable_all().build()?)
}

async fn coordinate(job: Job) -> Result<()> {
    let state = SessionStateBuilder::new()
        .with_default_features()
        .with_config(SessionConfig::new().with_target_partitions(job.cores))
        .with_distributed_worker_resolver(Workers(job.ports.clone()))
        .with_distributed_planner()
        .with_distributed_broadcast_joins(true)?
        .build();
    job.serve(SessionContext::from(state)).await
}

#[derive(Clone)]
struct Workers(Vec<u16>);

#[async_trait]
impl WorkerResolver for Workers {
    fn get_urls(&self) -> std::result::Result<Vec<Url>, DataFusionError> {
        let url = |port| Url::parse(&format!("http://127.0.0.1:{port}"));
        self.0.iter().map(url).collect::<std::result::Result<_, _>>().map_err(|error| DataFusionError::External(error.into()))
    }
}
