//! How much memory all processes of a party hold at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::Result;

/// How often it is looked.
const INTERVAL: Duration = Duration::from_millis(10);
/// How often it is looked for what processes have started.
const FAMILY_ROUNDS: u32 = 100;
/// What Linux counts memory in on the machines that we run on.
const PAGE_BYTES: u64 = 4096;

/// Looks again and again, until it is dropped.
pub(crate) struct MemoryWatch {
    peak_bytes: Arc<AtomicU64>,
    _ends: mpsc::SyncSender<()>,
}

impl MemoryWatch {
    /// Watches these processes and all that they start.
    pub(crate) fn start(processes: Vec<u32>) -> Result<Self> {
        let peak_bytes = Arc::new(AtomicU64::new(0));
        let (peak, (ends, ended)) = (Arc::clone(&peak_bytes), mpsc::sync_channel(1));
        std::thread::Builder::new().name("memory".to_owned()).spawn(move || {
            let mut family = vec![];
            let mut round = 0;
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if round % FAMILY_ROUNDS == 0 {
                    family = processes.iter().flat_map(|process| with_descendants(*process)).collect();
                }
                round += 1;
                peak.fetch_max(held_bytes(&family), Ordering::Relaxed);
            }
        })?;
        Ok(Self { peak_bytes, _ends: ends })
    }

    /// The most that they have held at once. What they map of files, which is their programs, counts once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }
}

fn held_bytes(processes: &[u32]) -> u64 {
    let held: Vec<_> = processes.iter().filter_map(|process| pages(*process)).collect();
    let own: u64 = held.iter().map(|(resident, mapped)| resident.saturating_sub(*mapped)).sum();
    let mapped = held.iter().map(|(_, mapped)| *mapped).max().unwrap_or(0);
    (own + mapped) * PAGE_BYTES
}

/// All pages that a process holds, and those that it maps of files; nothing of one that has ended.
fn pages(process: u32) -> Option<(u64, u64)> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = statm.split_whitespace().skip(1).map(|pages| pages.parse().ok());
    Some((pages.next()??, pages.next()??))
}

/// A process and all that it has started.
fn with_descendants(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    [process].into_iter().chain(children.into_iter().flat_map(with_descendants)).collect()
}

/// The most memory that this process has held, where the system says so.
pub(crate) fn peak_bytes_of_this_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    Some(peak.parse::<u64>().ok()? << 10)
}
