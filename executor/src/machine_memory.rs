//! How much memory this machine, or the control group that the process is in, has.

use std::fs;
use std::path::Path;

/// Percent of the memory that tasks get (60). The rest is for memory that no pool counts.
const SHARE_PERCENT: usize = 60;
/// Bytes of the smallest memory limit (16 MiB: a batch of wide rows and the buffers of a sort or a join).
pub(crate) const MIN_MEMORY_LIMIT_BYTES: usize = 16 << 20;
/// Bytes of memory that are assumed if the machine does not report any (4 GiB).
const UNKNOWN_BYTES: usize = 4 << 30;

/// The memory limit of an executor whose settings have none: 60 % of the memory of the machine or the control group.
pub fn default_memory_limit_bytes() -> usize {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let total = group_limit(&groups, Path::new("/sys/fs/cgroup")).into_iter().chain(physical_bytes()).min();
    total.unwrap_or(UNKNOWN_BYTES) / 100 * SHARE_PERCENT
}

/// The smallest limit of the control groups of this process and of the groups above them. `groups` is the text of
/// `/proc/self/cgroup`: one line `0::PATH` in version 2, and a line `NUMBER:memory:PATH` in version 1.
///
/// In a container, the path may be the path on the host, which does not exist in the container. The container's own
/// group is the root then.
fn group_limit(groups: &str, root: &Path) -> Option<usize> {
    let files = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            controllers if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return vec![],
        };
        let group = Path::new(path.trim_start_matches('/'));
        group.ancestors().map(|above| root.join(above).join(file)).collect()
    });
    // A group without a limit says "max".
    files.filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok()).min()
}

fn physical_bytes() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
            fs::write(path, text).expect("a file");
        };
        let limit = |groups: &str| group_limit(groups, root.path());
        assert_eq!(limit("0::/a/b\n"), None);
        write("a/memory.max", "4096\n");
        write("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), Some(4096));
        write("memory.max", "2048\n");
        assert_eq!(limit("0::/on/the/machine\n"), Some(2048), "the root of a container");
        write("memory/x/memory.limit_in_bytes", "1024\n");
        assert_eq!(limit("4:cpu,cpuacct:/x\n3:memory:/x\n"), Some(1024));
        assert_eq!(limit("4:cpu,cpuacct:/x\n"), None);
    }
}
