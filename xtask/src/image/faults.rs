//! One container is killed during a query, and another one is stopped with SIGTERM. No query may fail.

use std::process::{Child, Stdio};

use crate::steps;

use super::answers::STARTED;
use super::cluster::Cluster;

/// A query that computes for seconds on all executors.
const HEAVY: &str = "select o_orderpriority, count(*) as n, \
    sum(length(regexp_replace(repeat(l_comment || o_comment, 10), '[aeiou]+[a-z]', 'x', 'g'))) as letters \
    from lineitem join orders on l_orderkey = o_orderkey group by o_orderpriority order by o_orderpriority";
/// A query that takes a fraction of a second.
const LIGHT: &str = "select count(*) as n, sum(l_quantity) as quantity from lineitem";
/// Seconds that a stopped container gets. An executor needs at most 30 s for its running tasks (`--drain-timeout`).
const GRACE: &str = "45";

pub(super) fn check(cluster: &Cluster<'_>) -> Result<(), String> {
    let heavy = expected(cluster, HEAVY)?;
    kill_one(cluster, &heavy)?;
    drain_one(cluster, &heavy, &expected(cluster, LIGHT)?)
}

/// Kills the first executor while it computes. The query must give the right answer.
fn kill_one(cluster: &Cluster<'_>, expected: &str) -> Result<(), String> {
    let victim = &cluster.executors()[0];
    let mut query = start_heavy(cluster, &cluster.executors())?;
    cluster.podman.output(&["kill", "--signal", "KILL", victim])?;
    let is_running = is_running(&mut query)?;
    let came = rows(query)?;
    match (is_running, came == expected) {
        (true, true) => println!("{victim} was killed during a query, and the answer is right"),
        (true, false) => return Err(format!("after the kill of {victim} came {came:?} instead of {expected:?}")),
        (false, _) => return Err(format!("the query had ended before {victim} was killed; make it heavier")),
    }
    Ok(())
}

/// Stops the second executor while it computes. The query, and others that start meanwhile, must give the right answer.
fn drain_one(cluster: &Cluster<'_>, expected_heavy: &str, expected_light: &str) -> Result<(), String> {
    let executors = cluster.executors();
    let leaving = &executors[1];
    let mut query = start_heavy(cluster, &executors[1..])?;
    let mut stop = cluster.podman.command(&["stop", "--time", GRACE, leaving]);
    let mut stop = stop
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("podman cannot be started: {error}"))?;
    if !is_running(&mut query)? {
        return Err(format!("the query had ended before {leaving} was stopped; make it heavier"));
    }
    let mut others = 0;
    while is_running(&mut stop)? || is_running(&mut query)? {
        let came = steps::output(&mut cluster.shell(LIGHT))?;
        if came != expected_light {
            return Err(format!("while {leaving} stopped, {came:?} came instead of {expected_light:?}"));
        }
        others += 1;
    }
    let came = rows(query)?;
    if came != expected_heavy {
        return Err(format!("after the stop of {leaving} came {came:?} instead of {expected_heavy:?}"));
    }
    let status = cluster.podman.output(&["inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", leaving])?;
    if status.trim() != "false 0" {
        return Err(format!("{leaving} did not end by itself: running and exit status are {}", status.trim()));
    }
    println!("{leaving} was stopped during a query and {others} others, and all answers are right");
    Ok(())
}

/// The rows of a shell with a cluster in its own process.
fn expected(cluster: &Cluster<'_>, sql: &str) -> Result<String, String> {
    steps::output(&mut cluster.embedded_shell(&format!("{}{sql}", super::answers::tables())))
}

/// Starts the heavy query and waits until all of `executors` work on it.
fn start_heavy(cluster: &Cluster<'_>, executors: &[String]) -> Result<Child, String> {
    let count = |name: &String| Ok(cluster.log(name)?.matches(STARTED).count());
    let before = executors.iter().map(count).collect::<Result<Vec<usize>, String>>()?;
    let mut shell = cluster.shell(HEAVY);
    let query = shell.stdout(Stdio::piped()).spawn().map_err(|error| format!("podman cannot be started: {error}"))?;
    for (name, before) in executors.iter().zip(before) {
        cluster.wait_for_log(name, STARTED, before + 1)?;
    }
    Ok(query)
}

fn is_running(child: &mut Child) -> Result<bool, String> {
    Ok(child.try_wait().map_err(|error| format!("podman: {error}"))?.is_none())
}

/// The rows that a shell printed; an error if it failed.
fn rows(query: Child) -> Result<String, String> {
    let output = query.wait_with_output().map_err(|error| format!("podman: {error}"))?;
    if !output.status.success() {
        return Err("a query failed while an executor left; its error is above".to_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
