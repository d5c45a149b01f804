//! Measures the peak of the memory that all processes of a party hold at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use crate::Result;

/// Time between two measurements. A shorter peak may be missed.
const INTERVAL: Duration = Duration::from_millis(10);
/// Number of measurements between two searches for new child processes (100: once a second).
const FAMILY_ROUNDS: u32 = 100;
/// Bytes of a memory page, the unit of `/proc/PID/statm`, on the machines that we run on.
const PAGE_BYTES: u64 = 4096;

/// Measures the memory of processes until it is dropped.
pub(crate) struct MemoryWatch {
    peak_bytes: Arc<AtomicU64>,
    _ends: mpsc::SyncSender<()>,
}

impl MemoryWatch {
    /// Watches these processes and all processes that they start.
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

    /// The most bytes that the processes have held at the same time. Mapped files are mostly the programs, and the
    /// processes share them. So only the mapped files of the process with the most of them count.
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

/// The number of resident pages of a process, and how many of them map files. `None` if the process has ended.
fn pages(process: u32) -> Option<(u64, u64)> {
    let statm = std::fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = statm.split_whitespace().skip(1).map(|pages| pages.parse().ok());
    Some((pages.next()??, pages.next()??))
}

/// A process and all its descendants.
fn with_descendants(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|text| text.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>())
        .collect();
    [process].into_iter().chain(children.into_iter().flat_map(with_descendants)).collect()
}

/// The peak memory of this process in bytes, if the system reports it.
pub(crate) fn peak_bytes_of_this_process() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"))?;
    Some(peak.parse::<u64>().ok()? << 10)
}
