//! How much memory this machine, or the control group that the process is in, has.

use std::fs;

/// Percent of the machine's memory that tasks get (60). The rest is for memory that no pool counts.
const SHARE_PERCENT: usize = 60;
/// Bytes of the smallest memory limit (16 MiB: a batch of wide rows and the buffers of a sort or a join).
pub(crate) const MIN_MEMORY_LIMIT_BYTES: usize = 16 << 20;
/// Bytes of memory that are assumed if the machine does not report any (4 GiB).
const UNKNOWN_BYTES: usize = 4 << 30;

/// The memory limit of an executor whose settings have none: 60 % of the memory of the machine or the control group.
pub fn default_memory_limit_bytes() -> usize {
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = groups.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse::<usize>().ok());
    let total = limits.chain(physical_bytes()).min().unwrap_or(UNKNOWN_BYTES);
    total / 100 * SHARE_PERCENT
}

fn physical_bytes() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
