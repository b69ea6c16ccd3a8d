//! The master's Slurm job: where else a master may be that is looked for from within a job.
//!
//! A master that was started as a job may have been started again on another node, and an access file that was carried
//! somewhere does not change. The job's name says where it is.

use std::{
    collections::BTreeSet,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{DEFAULT_PORT, Wanted};
use crate::launch::command::{self, Failed};

/// Slurm is asked no more often.
const PAUSE: Duration = Duration::from_secs(30);

/// So many nodes are tried.
const NODES_MAX: usize = 16;

/// Asks Slurm for the master's job, now and then, on a thread of its own.
pub(super) struct Hunt {
    /// The job's name; none outside of jobs, and for those who were told where the master is.
    job: Option<String>,
    known: Arc<Known>,
}

#[derive(Default)]
struct Known {
    /// When Slurm may be asked again.
    next: Mutex<Option<Instant>>,
    answer: Mutex<Option<Result<Vec<String>, String>>>,
    news: Notify,
}

impl Known {
    fn answer(&self) -> MutexGuard<'_, Option<Result<Vec<String>, String>>> {
        self.answer.lock().expect("no holder panics")
    }
}

impl Hunt {
    pub(super) fn new(wanted: &Wanted) -> Self {
        let is_in_job = std::env::var_os("SLURM_JOB_ID").is_some() && wanted.master.is_none();
        let job = is_in_job.then(|| job_name(&wanted.cluster_name()));
        Self { job, known: Arc::default() }
    }

    /// One that finds nothing.
    pub(super) fn none() -> Self {
        Self { job: None, known: Arc::default() }
    }

    /// Asks, unless that was done a moment ago.
    pub(super) fn ask(&self) {
        let Some(job) = self.job.clone() else { return };
        let now = Instant::now();
        let mut next = self.known.next.lock().expect("no holder panics");
        if next.is_some_and(|next| now < next) {
            return;
        }
        *next = Some(now + PAUSE);
        drop(next);
        let known = Arc::clone(&self.known);
        let ask = move || {
            let answer = nodes_of(&job).map_err(|failed| failed.to_string());
            let before = known.answer().replace(answer.clone());
            if answer.is_ok_and(|hosts| !hosts.is_empty() && before != Some(Ok(hosts))) {
                known.news.notify_one();
            }
        };
        // Without a thread there are the addresses of the file.
        let _ = thread::Builder::new().name("cw-slurm".to_owned()).spawn(ask);
    }

    /// Done when there is a host that was not known before.
    pub(super) async fn found(&self) {
        self.known.news.notified().await;
    }

    /// The addresses of the job's hosts, at the ports of these and the usual one.
    pub(super) fn addresses(&self, listed: &[String]) -> Vec<String> {
        let answer = self.known.answer();
        let Some(Ok(hosts)) = &*answer else { return Vec::new() };
        let port = |address: &String| address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let ports: BTreeSet<u16> = cw_core::gathered(listed.iter().filter_map(port).chain([DEFAULT_PORT]));
        let at = |host: &String| ports.iter().map(|port| format!("{host}:{port}")).collect::<Vec<_>>();
        hosts.iter().flat_map(at).collect()
    }

    /// Adds what Slurm said, if that is no help.
    pub(super) fn add_to(&self, why: String) -> String {
        let answer = self.known.answer();
        match (&self.job, &*answer) {
            (Some(job), Some(Ok(hosts))) if hosts.is_empty() => {
                format!("{why}; and no job `{job}` of yours runs")
            }
            (Some(job), Some(Err(error))) => {
                format!("{why}; and Slurm does not say where its job `{job}` is: {error}")
            }
            _ => why,
        }
    }
}

/// The name of the job that is a cluster's master.
fn job_name(cluster: &str) -> String {
    format!("cw-{cluster}-master")
}

/// The hosts that this user's running job of this name is on, each by its name and by the address Slurm has of it.
fn nodes_of(job: &str) -> Result<Vec<String>, Failed> {
    let ask =
        |program: &str, words: &[&str]| command::run(Command::new(program).args(words), b"", command::LIMIT);
    let mut hosts = Vec::new();
    for list in ask("squeue", &["--me", "-h", "-n", job, "-t", "R", "-o", "%N"])?.stdout.split_whitespace() {
        let names = match list.contains(['[', ',']) {
            true => ask("scontrol", &["show", "hostnames", list])?.stdout,
            false => list.to_owned(),
        };
        for name in names.split_whitespace().filter(|name| is_host(name)).take(NODES_MAX) {
            hosts.push(name.to_owned());
            // A node's name need not be one that the name service knows.
            if let Ok(node) = ask("scontrol", &["-o", "show", "node", name]) {
                hosts.extend(address_in(&node.stdout).filter(|address| address != name));
            }
        }
    }
    hosts.truncate(NODES_MAX);
    Ok(hosts)
}

/// The address of a node in what Slurm says of it.
fn address_in(node: &str) -> Option<String> {
    let address = node.split_whitespace().find_map(|word| word.strip_prefix("NodeAddr="))?;
    is_host(address).then(|| address.to_owned())
}

/// A host's name, or an IPv4 address; a port is to follow.
fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty() && text.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunt(answer: Result<&[&str], &str>) -> Hunt {
        let hosts = answer.map(|hosts| hosts.iter().map(ToString::to_string).collect());
        let answer = Mutex::new(Some(hosts.map_err(str::to_owned)));
        let known = Known { answer, ..Known::default() };
        Hunt { job: Some(job_name("lab")), known: Arc::new(known) }
    }

    #[test]
    fn hosts_are_tried_at_each_port_that_is_known() {
        let listed = ["10.0.0.5:7001", "[fd77::1]:7001", "login1:7001"].map(str::to_owned);
        let found = hunt(Ok(&["cw1", "10.0.0.9"])).addresses(&listed);
        assert_eq!(found, ["cw1:5494", "cw1:7001", "10.0.0.9:5494", "10.0.0.9:7001"]);
        assert_eq!(hunt(Err("no")).addresses(&listed), [""; 0]);
    }

    #[test]
    fn no_help_is_told() {
        let told = |answer| hunt(answer).add_to("a:1: no answer".to_owned());
        assert_eq!(told(Ok(&["cw1"])), "a:1: no answer");
        assert_eq!(told(Ok(&[])), "a:1: no answer; and no job `cw-lab-master` of yours runs");
        let words = "a:1: no answer; and Slurm does not say where its job `cw-lab-master` is: squeue: oh";
        assert_eq!(told(Err("squeue: oh")), words);
    }

    #[test]
    fn an_address_is_only_taken_if_it_is_one() {
        let node = "NodeName=cw1 Arch=x86_64 NodeAddr=10.7.0.2 NodeHostName=cw1 Port=6818";
        assert_eq!(address_in(node).as_deref(), Some("10.7.0.2"));
        for odd in ["NodeName=cw1", "NodeAddr=", "NodeAddr=$(reboot)", "NodeAddr=a:1"] {
            assert_eq!(address_in(odd), None, "{odd}");
        }
    }
}
