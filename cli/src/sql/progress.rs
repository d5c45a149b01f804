//! A line on standard error that shows the progress of a query that has run for more than half a second.

use std::io::IsTerminal;
use std::time::Duration;

use datafusion::common::runtime::SpawnedTask;
use hwacha_client::{Connection, Progress};
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

/// Run time of a query before its progress line appears.
const AFTER: Duration = Duration::from_millis(500);
const EVERY: Duration = Duration::from_millis(200);

/// Shows a query's progress until dropped.
pub(super) struct ProgressLine {
    _update: SpawnedTask<()>,
    bar: ProgressBar,
}

impl ProgressLine {
    /// Starts the line if standard error is a terminal.
    pub(super) fn start(connection: &Connection, query: Option<&str>) -> Option<Self> {
        let query = query.filter(|_| std::io::stderr().is_terminal())?.to_owned();
        let bar = ProgressBar::hidden();
        let (line, connection) = (bar.clone(), connection.clone());
        let update = SpawnedTask::spawn(async move {
            tokio::time::sleep(AFTER).await;
            line.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is valid"));
            line.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            while let Ok(progress) = connection.progress(&query).await {
                line.set_message(describe(&progress));
                line.tick();
                tokio::time::sleep(EVERY).await;
            }
        });
        Some(Self { _update: update, bar })
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn describe(progress: &Progress) -> String {
    if progress.waiting_for_executors {
        return format!("{}: waiting for an executor", progress.state);
    }
    format!(
        "{}: stages {}/{}, tasks {}/{}, {} rows, {} exchanged",
        progress.state,
        progress.finished_stages,
        progress.stages,
        progress.finished_tasks,
        progress.tasks,
        HumanCount(progress.rows),
        HumanBytes(progress.exchange_bytes),
    )
}
