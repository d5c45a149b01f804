//! A scheduler and three executors in containers on a network of their own. Dropping the cluster removes all of it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::steps;

use super::build::IMAGE;
use super::podman::Podman;

pub(super) const EXECUTORS: usize = 3;
/// The scale of the TPC-H tables.
const SCALE: &str = "0.1";
/// The last number of the scheduler's address. Those of the executors follow.
const SCHEDULER: usize = 10;
/// Where containers see the tables.
pub(super) const DATA: &str = "/data";
/// The user of the image, who writes the tables.
const USER: &str = "10001:10001";
/// The options of all containers: nothing but the volume of the image can be written to.
const CLOSED: [&str; 6] =
    ["--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges"];
/// Seconds within which an awaited line must come in a log (60).
const LOG_SECONDS: &str = "60";

pub(super) struct Cluster<'a> {
    pub podman: &'a Podman,
    /// The folder with the tables.
    tables: PathBuf,
    /// Begins the names of the containers and of the network.
    prefix: String,
    /// Begins the addresses of the containers, such as `10.89.0.`.
    subnet: String,
}

impl<'a> Cluster<'a> {
    /// Generates the tables if they are not there, and makes the network.
    pub(super) fn prepare(podman: &'a Podman, folder: &Path) -> Result<Self, String> {
        generate(podman, folder)?;
        let prefix = format!("hwacha-{}", std::process::id());
        let subnet = create_network(podman, &prefix)?;
        Ok(Self { podman, tables: folder.join(format!("tpch-{SCALE}")), prefix, subnet })
    }

    /// Starts the containers and waits until all are ready.
    pub(super) fn start(&self) -> Result<(), String> {
        self.run(&self.scheduler(), SCHEDULER, &["scheduler", "--allow-location", DATA])?;
        self.wait_until_ready(&self.scheduler())?;
        let url = format!("http://{}:50050", self.address(SCHEDULER));
        for (host, executor) in (SCHEDULER + 1..).zip(self.executors()) {
            // As in the chart, executors tell each other addresses. Podman's name server is silent for seconds after a
            // container was killed.
            let advertise = format!("{}:50050", self.address(host));
            let log = ["--log-filter", "info,hwacha_executor=debug"];
            let flags = ["executor", "--scheduler", &url, "--advertise", &advertise, "--cores", "1"];
            self.run(&executor, host, &[&flags[..], &log].concat())?;
        }
        self.executors().iter().try_for_each(|executor| self.wait_until_ready(executor))
    }

    pub(super) fn scheduler(&self) -> String {
        format!("{}-scheduler", self.prefix)
    }

    pub(super) fn executors(&self) -> Vec<String> {
        (1..=EXECUTORS).map(|number| format!("{}-executor-{number}", self.prefix)).collect()
    }

    fn address(&self, host: usize) -> String {
        format!("{}{host}", self.subnet)
    }

    fn run(&self, name: &str, host: usize, role: &[&str]) -> Result<(), String> {
        let address = self.address(host);
        let volume = format!("{}:{DATA}:ro", self.tables.display());
        let own = [
            "--detach",
            "--name",
            name,
            "--network",
            &self.prefix,
            "--ip",
            &address,
            "--memory",
            "2g",
            "--volume",
            &volume,
        ];
        let arguments = [&own[..], &CLOSED, &["--env", "HWACHA_ALLOW_REMOTE=true", IMAGE], role].concat();
        self.podman.output(&self.podman.run_arguments(&arguments)).map(|_| ())
    }

    /// A shell that runs `sql` on this cluster, in a new container.
    pub(super) fn shell(&self, sql: &str) -> Command {
        let url = format!("HWACHA_URL=grpc://{}:50050", self.address(SCHEDULER));
        self.shell_with(&["--network", &self.prefix, "--env", &url], sql)
    }

    /// A shell that runs `sql` on a cluster in its own process.
    pub(super) fn embedded_shell(&self, sql: &str) -> Command {
        self.shell_with(&["--network", "none"], sql)
    }

    fn shell_with(&self, options: &[&str], sql: &str) -> Command {
        let volume = format!("{}:{DATA}:ro", self.tables.display());
        let role = ["sql", "--quiet", "--format", "csv", "--command", sql];
        let arguments =
            [&["--rm", "--no-healthcheck", "--tmpfs", "/tmp", "--volume", &volume], options, &CLOSED, &[IMAGE], &role]
                .concat();
        let mut command = self.podman.command(&self.podman.run_arguments(&arguments));
        command.stdin(Stdio::null());
        command
    }

    fn wait_until_ready(&self, name: &str) -> Result<(), String> {
        self.wait_for_log(name, "ready ", 1)?;
        // The health check of the image. An engine repeats it; here it runs once.
        self.podman.output(&["healthcheck", "run", name]).map(|_| ())
    }

    /// Waits until `text` has come `times` times in the log of a container.
    pub(super) fn wait_for_log(&self, name: &str, text: &str, times: usize) -> Result<(), String> {
        let mut follow = self.podman.command_within(LOG_SECONDS, &["logs", "--follow", name]);
        let (read, write) = std::io::pipe().map_err(|error| format!("a pipe: {error}"))?;
        let copy = write.try_clone().map_err(|error| format!("a pipe: {error}"))?;
        follow.stdin(Stdio::null()).stdout(write).stderr(copy);
        let mut logs = follow.spawn().map_err(|error| format!("podman cannot be started: {error}"))?;
        // The command holds the writing end, so that reading ends with it.
        drop(follow);
        let lines = BufReader::new(read).lines().map_while(Result::ok);
        let found = lines.filter(|line| line.contains(text)).take(times).count();
        // It may have ended by itself.
        let _ = logs.kill();
        logs.wait().map_err(|error| format!("podman: {error}"))?;
        let missing = || format!("`{text}` did not come {times} times within {LOG_SECONDS} s in the log of {name}");
        (found == times).then_some(()).ok_or_else(missing)
    }

    /// Checks that no process is root.
    pub(super) fn check_containers(&self) -> Result<(), String> {
        for name in self.executors().into_iter().chain([self.scheduler()]) {
            let user = self.podman.output(&["exec", &name, "id", "-u"])?;
            if user.trim() == "0" {
                return Err(format!("{name} runs as root; the Dockerfile must name another user"));
            }
        }
        Ok(())
    }

    pub(super) fn log(&self, name: &str) -> Result<String, String> {
        // Logs are on standard error.
        let output = self.podman.command(&["logs", name]).output().map_err(|error| format!("podman: {error}"))?;
        Ok([output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat())
    }

    /// Prints the ends of all logs.
    pub(super) fn print_logs(&self) {
        for name in [self.scheduler()].into_iter().chain(self.executors()) {
            let log = self.log(&name).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            println!("--- {name}\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        let names: Vec<String> = self.executors().into_iter().chain([self.scheduler()]).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let removed =
            self.podman.output(&[&["rm", "--force", "--volumes", "--time", "0", "--ignore"], &names[..]].concat());
        let removed = removed.and_then(|_| self.podman.output(&["network", "rm", "--force", &self.prefix]));
        if let Err(error) = removed {
            eprintln!("{} could not be removed: {error}", self.prefix);
        }
    }
}

/// Makes a network and returns the beginning of its addresses.
fn create_network(podman: &Podman, name: &str) -> Result<String, String> {
    podman.output(&["network", "create", "--disable-dns", name])?;
    let subnet = podman.output(&["network", "inspect", "--format", "{{range .Subnets}}{{.Subnet}}{{end}}", name])?;
    let (start, _) = subnet.rsplit_once('.').ok_or_else(|| format!("the network has the addresses {subnet}"))?;
    Ok(format!("{start}."))
}

/// Writes the tables as the job of `docker/compose.yaml` does. The demo also compares its answers with DataFusion's.
fn generate(podman: &Podman, folder: &Path) -> Result<(), String> {
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    steps::must_succeed(Command::new("chown").arg(USER).arg(folder))?;
    let volume = format!("{}:{DATA}", folder.display());
    // The processes of the demo listen on ports of their own.
    let listen = "HWACHA_LISTEN=127.0.0.1:0";
    let own =
        ["--rm", "--no-healthcheck", "--volume", &volume, "--tmpfs", "/tmp", "--network", "none", "--env", listen];
    let role = [IMAGE, "demo", "--scale", SCALE, "--data-dir", DATA];
    steps::must_succeed(&mut podman.command(&podman.run_arguments(&[&own[..], &CLOSED, &role].concat())))
}
