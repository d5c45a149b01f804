//! The container engine: podman as root, with options that also work without systemd and without a registry.

use std::fs;
use std::process::Command;

use crate::steps;

/// Debian's packages.
const PACKAGES: [&str; 6] = ["podman", "buildah", "runc", "iptables", "netavark", "debootstrap"];
/// Seconds after which a command of podman is ended (300).
const DEADLINE: &str = "300";
/// The largest limits that a container asks for. An engine without the right to raise limits must ask for less than its
/// own.
const MOST_FILES: u64 = 65_536;
const MOST_PROCESSES: u64 = 4096;

/// A podman that was found on this machine.
pub(super) struct Podman {
    /// `runc` also works where the default runtime does not, for example without the newer control groups.
    has_runc: bool,
    limits: [String; 2],
}

impl Podman {
    /// Finds podman. If there is none, installs it with apt-get when this process is root.
    pub(super) fn find_or_install() -> Result<Self, String> {
        if !is_root() {
            return Err("podman needs root; run the command as root".to_owned());
        }
        if !has("podman") {
            install()?;
        }
        let limits = fs::read_to_string("/proc/self/limits").map_err(|error| format!("/proc/self/limits: {error}"))?;
        let limit = |name: &str, row: &str, most: u64| {
            let value = hard_limit(&limits, row).unwrap_or(most).min(most);
            format!("{name}={value}:{value}")
        };
        Ok(Self {
            has_runc: has("runc"),
            limits: [limit("nofile", "Max open files", MOST_FILES), limit("nproc", "Max processes", MOST_PROCESSES)],
        })
    }

    /// Runs an empty container on a new network, and so finds out whether containers work here.
    pub(super) fn try_out(&self, image: &str) -> Result<(), String> {
        let network = format!("hwacha-try-{}", std::process::id());
        self.output(&["network", "create", "--disable-dns", &network])?;
        let ran = self.output(&self.run_arguments(&["--rm", "--network", &network, image, "true"]));
        self.output(&["network", "rm", "--force", &network])?;
        ran.map(|_| ())
    }

    /// A command that ends after the deadline.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        self.command_within(DEADLINE, arguments)
    }

    /// A command that ends after a number of seconds.
    pub(super) fn command_within(&self, seconds: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", seconds, "podman", "--cgroup-manager", "cgroupfs"]);
        if self.has_runc {
            command.args(["--runtime", "runc"]);
        }
        command.args(arguments);
        command
    }

    /// Runs a command and returns what it printed.
    pub(super) fn output(&self, arguments: &[&str]) -> Result<String, String> {
        steps::output(&mut self.command(arguments))
    }

    /// The arguments of `podman run` that every container needs, and `rest`.
    pub(super) fn run_arguments<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        let mut arguments = vec!["run", "--pull=never", "--log-driver", "k8s-file"];
        arguments.extend(self.limits.iter().flat_map(|limit| ["--ulimit", limit]));
        arguments.extend(rest);
        arguments
    }

    pub(super) fn has_image(&self, name: &str) -> Result<bool, String> {
        steps::succeeds(&mut self.command(&["image", "exists", name]))
    }
}

fn is_root() -> bool {
    steps::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Whether a program is installed.
pub(super) fn has(program: &str) -> bool {
    steps::output(Command::new(program).arg("--version")).is_ok()
}

/// Installs what is missing of podman and debootstrap.
pub(super) fn install() -> Result<(), String> {
    if !has("apt-get") {
        return Err("podman or debootstrap is not installed, and there is no apt-get to install it".to_owned());
    }
    println!("installing {}", PACKAGES.join(", "));
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        steps::output(command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet").args(arguments))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], &PACKAGES[..]].concat())?;
    Ok(())
}

/// The hard limit in a row of `/proc/self/limits`. `None` if the row says `unlimited`.
fn hard_limit(limits: &str, row: &str) -> Option<u64> {
    let values = limits.lines().find_map(|line| line.strip_prefix(row))?;
    values.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hard_limit_is_the_second_number() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax processes  100  200  processes\n\
                      Max open files  1024  unlimited  files\n";
        assert_eq!(hard_limit(limits, "Max processes"), Some(200));
        assert_eq!(hard_limit(limits, "Max open files"), None);
        assert_eq!(hard_limit(limits, "Max stack size"), None);
    }
}
