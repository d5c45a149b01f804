//! The common part of the drivers of engines with DataFusion's interface. A driver registers the tables and prints
//! `ready`. Then it reads lines with the number of a query and a path, runs the query, and writes its rows to the path.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, Write};
use std::time::Instant;

use arrow::ipc::writer::FileWriter;
use datafusion::common::runtime::SpawnedTask;
use datafusion::prelude::{ParquetReadOptions, SessionContext};
use serde::Deserialize;

pub type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The input of every driver, which the benchmark writes as JSON.
#[derive(Debug, Deserialize)]
pub struct Job {
    pub tables: BTreeMap<String, String>,
    pub queries: BTreeMap<usize, String>,
    pub executors: usize,
    pub cores: usize,
    pub memory_bytes: u64,
    /// Ports of the engine's servers on loopback. If there is a scheduler, its port is the first.
    pub ports: Vec<u16>,
}

impl Job {
    /// Reads the job whose path is the first argument.
    pub fn read() -> Result<Self> {
        let path = std::env::args().nth(1).ok_or("a job's path is the first argument")?;
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// Runs queries until standard input ends.
    pub async fn serve(&self, context: SessionContext) -> Result<()> {
        for (table, path) in &self.tables {
            context.register_parquet(table, path, ParquetReadOptions::default()).await?;
        }
        context.sql("SELECT 1").await?.collect().await?;
        say("ready ")?;
        for line in std::io::stdin().lock().lines() {
            let line = line?;
            let (number, path) = line.split_once(' ').ok_or("a number and a path")?;
            match self.query(&context, number.parse()?, path).await {
                Ok(seconds) => say(&seconds.to_string())?,
                Err(error) => say(&format!("failed {}", error.to_string().replace('\n', " ")))?,
            }
        }
        Ok(())
    }

    async fn query(&self, context: &SessionContext, number: usize, path: &str) -> Result<f64> {
        let (context, sql) = (context.clone(), self.queries[&number].clone());
        let started = Instant::now();
        let rows = SpawnedTask::spawn(async move { context.sql(&sql).await?.collect().await }).join().await??;
        let seconds = started.elapsed().as_secs_f64();
        let schema = rows.first().map(|batch| batch.schema()).unwrap_or_else(|| arrow::datatypes::Schema::empty().into());
        let mut writer = FileWriter::try_new(std::fs::File::create(path)?, &schema)?;
        rows.iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        Ok(seconds)
    }
}

fn say(line: &str) -> Result<()> {
    println!("{line}");
    Ok(std::io::stdout().flush()?)
}
