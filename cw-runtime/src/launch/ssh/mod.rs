//! Workers on machines that are reached by SSH: `cw start --ssh hosts.txt`.
//!
//! One worker a host. Nothing but the `ssh` command is used, with the user's own settings, agent and keys, and nobody is
//! ever asked for a password. Each call runs one function of `remote.sh` there:
//!
//! ```text
//! start ----> running                      one is there already
//!   |-------> started                      the program is seen there at the same path (a shared home), or was sent before
//!   `-------> need --> put --> start       it is sent, by its hash, run once for a trial, and then given its name
//! look -----> running | ended | none
//! stop -----> stopped                      TERM, KILL after 10 s, and all that was made there is removed
//! ```
//!
//! A host has a folder for each fleet (`~/.cache/cw/ID-K`): process, log, how it ended, and where the cluster's own folder is
//! not seen there a folder of the cluster with the access file of workers, which travels on the standard input only.
//! Programs lie beside it (`~/.cache/cw/bin/HASH`). Temporary files of the worker and its tasks are in
//! `$TMPDIR/cw-ID-K`. A worker connects to the master, so nothing listens there, and it lives on without any connection
//! of SSH's.

pub(crate) mod hosts;
mod reach;
mod remote;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use reach::{Lost, for_each, ssh, typed};
use remote::{Found, Program, Remote, Said};

use super::{
    End, Launched, Launcher, Refused, State, What,
    fleet::{Fleet, How, Ssh},
    shell,
};
use crate::{access::ClusterDir, net::tls::Peer};

/// How old an answer may be that is given again: each costs a login on every host.
const LOOK_PAUSE: Duration = Duration::from_secs(5);

/// Signals are told by shells as exit codes above this.
const SIGNALLED: i32 = 128;

/// Starts workers on hosts that are reached by SSH.
pub(crate) struct OverSsh {
    fleet: Fleet,
    access: PathBuf,
    ssh: Ssh,
    looked: Option<(Instant, Vec<Launched>)>,
}

impl OverSsh {
    pub(crate) fn new(fleet: &Fleet, dir: &ClusterDir) -> Self {
        let ssh = match &fleet.how {
            How::Ssh(ssh) => ssh.clone(),
            _ => Ssh::default(),
        };
        Self { fleet: fleet.clone(), access: dir.access_file(Peer::Worker), ssh, looked: None }
    }

    /// The hosts in their order, those first where nothing was started yet.
    fn candidates(&self, workers: u32) -> Vec<usize> {
        let is_used = |index: &usize| self.ssh.hosts[*index].folder.is_some();
        let (used, mut all): (Vec<usize>, Vec<usize>) = (0..self.ssh.hosts.len()).partition(is_used);
        all.extend(used);
        all.truncate(workers as usize);
        all.sort_unstable();
        all
    }

    fn remote(&self, index: usize) -> Remote<'_> {
        let folder = format!("{}-{}", self.fleet.id, index + 1);
        Remote { args: &self.ssh.args, host: &self.ssh.hosts[index].name, folder }
    }

    /// Takes in what came of a start. Whether something came of it, be it a failure: not where a worker ran already.
    fn on_started(&mut self, index: usize, came: Result<Said, Lost>) -> bool {
        let host = &mut self.ssh.hosts[index];
        let (folder, outcome) = match came {
            Ok(Said { state, folder, .. }) => (folder, outcome(state)),
            Err(Lost::Unreached(why)) => (None, Outcome::Failed(why)),
            // Something may be there.
            Err(Lost::Broken(why)) => (Some(String::new()), Outcome::Failed(why)),
        };
        host.folder = host.folder.take().filter(|it| !it.is_empty()).or(folder);
        let is_new = outcome != Outcome::WasThere;
        host.failed = if let Outcome::Failed(why) = outcome { Some(why) } else { None };
        is_new
    }

    fn ask(&self, index: usize) -> Launched {
        let host = &self.ssh.hosts[index];
        let state = match &host.failed {
            Some(why) => State::Ended(not_started(why)),
            None => state(&host.name, self.remote(index).look()),
        };
        Launched { id: host.name.clone(), what: What::Worker, state }
    }

    /// All that failed, each host with its own words.
    fn failures(&self, among: &[usize]) -> String {
        let hosts = among.iter().map(|index| &self.ssh.hosts[*index]);
        let failed = hosts.filter_map(|host| Some(format!("{}: {}", host.name, host.failed.as_ref()?)));
        failed.collect::<Vec<_>>().join("; ")
    }
}

impl Launcher for OverSsh {
    fn start(&mut self, workers: u32) -> Result<Vec<String>, Refused> {
        let program = Program::of(&self.fleet).map_err(|error| {
            let name = self.fleet.command.first().map_or("cw", String::as_str);
            Refused(format!("cannot read the program `{name}`: {error}"))
        })?;
        let access = fs::read(&self.access)
            .map_err(|error| Refused(format!("cannot read {}: {error}", self.access.display())))?;
        self.looked = None;
        let chosen = self.candidates(workers);
        let came = for_each(&chosen, |index| {
            self.remote(*index).start(&self.fleet, self.ssh.hosts[*index].slots, &program, &access)
        });
        let mut tried = Vec::new();
        for (index, came) in chosen.iter().zip(came) {
            if self.on_started(*index, came) {
                tried.push(self.ssh.hosts[*index].name.clone());
            }
        }
        let all_failed = chosen.iter().all(|index| self.ssh.hosts[*index].failed.is_some());
        if !chosen.is_empty() && all_failed {
            return Err(Refused(self.failures(&chosen)));
        }
        // Those that failed as well: a look tells why.
        Ok(tried)
    }

    fn look(&mut self) -> Result<Vec<Launched>, Refused> {
        if let Some((at, looked)) = &self.looked
            && at.elapsed() < LOOK_PAUSE
        {
            return Ok(looked.clone());
        }
        let hosts = self.ssh.hosts.iter().enumerate();
        let touched = hosts.filter(|(_, host)| host.folder.is_some() || host.failed.is_some());
        let touched: Vec<usize> = touched.map(|(index, _)| index).collect();
        let looked = for_each(&touched, |index| self.ask(*index));
        self.looked = Some((Instant::now(), looked.clone()));
        Ok(looked)
    }

    fn stop(&mut self) -> Result<(), Refused> {
        self.looked = None;
        let touched = |index: &usize| self.ssh.hosts[*index].folder.is_some();
        let all: Vec<usize> = (0..self.ssh.hosts.len()).filter(touched).collect();
        let came = for_each(&all, |index| self.remote(*index).stop());
        let mut left = Vec::new();
        for (index, came) in all.iter().zip(came) {
            let host = &mut self.ssh.hosts[*index];
            let why = match came {
                Ok(Said { state: Some(Found::Stopped), .. }) => None,
                Ok(Said { state: Some(Found::Failed(why)), .. }) => Some(why),
                Ok(said) => Some(senseless(&said.state)),
                Err(lost) => Some(lost.words().to_owned()),
            };
            match why {
                None => (host.folder, host.failed) = (None, None),
                Some(why) => left.push(format!("{}: {why}", host.name)),
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        Err(Refused(format!(
            "what was started is perhaps still there on {} of {} hosts: {}",
            left.len(),
            all.len(),
            left.join("; ")
        )))
    }

    fn how(&self) -> How {
        How::Ssh(self.ssh.clone())
    }

    fn plan(&self, workers: u32) -> String {
        let program = Program::of(&self.fleet);
        // Before the master has run for the first time there is none.
        let access = fs::read(&self.access).unwrap_or_default();
        let mut lines = match &program {
            Ok(program) => format!(
                "# the program, {} bytes, is sent to ~/.cache/cw/bin/{} where it is not seen at the same path\n",
                program.bytes(),
                program.name()
            ),
            Err(error) => format!("# the program cannot be read: {error}\n"),
        };
        for index in self.candidates(workers) {
            let host = &self.ssh.hosts[index];
            let worker = shell::line(
                self.fleet.command.first().into_iter().cloned().chain(self.fleet.worker_words(host.slots)),
            );
            lines += &format!("# on {}: {worker}\n", host.name);
            if let Ok(program) = &program {
                let call = self.remote(index).starting(&self.fleet, host.slots, program, &access);
                lines += &format!("{}\n", typed(&ssh(&self.ssh.args, &host.name, call.script.len())));
            }
        }
        lines
    }
}

/// What came of a start.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Started,
    WasThere,
    Failed(String),
}

fn outcome(state: Option<Found>) -> Outcome {
    match state {
        Some(Found::Started(_)) => Outcome::Started,
        Some(Found::Running(_)) => Outcome::WasThere,
        Some(Found::Failed(why)) => Outcome::Failed(why),
        other => Outcome::Failed(senseless(&other)),
    }
}

fn senseless(state: &Option<Found>) -> String {
    format!("it answered what makes no sense: {state:?}")
}

fn not_started(why: &str) -> End {
    End { is_well: false, how: format!("was not started: {why}"), on: None, last: Vec::new() }
}

fn state(host: &str, came: Result<Said, Lost>) -> State {
    let said = match came {
        Err(lost) => return State::Unknown { why: lost.words().to_owned() },
        Ok(said) => said,
    };
    let (is_well, how) = match said.state {
        Some(Found::Running(_)) => return State::Running { on: host.to_owned() },
        Some(Found::Ended(Some(code))) if code > SIGNALLED => {
            (false, format!("killed by signal {}", code - SIGNALLED))
        }
        Some(Found::Ended(Some(code))) => (code == 0, format!("exit code {code}")),
        Some(Found::Ended(None)) => {
            (false, "ended with all of its session: is it let live after a logout there?".to_owned())
        }
        Some(Found::Nothing) => (false, "its folder there is gone".to_owned()),
        Some(Found::Failed(why)) => return State::Unknown { why },
        other => return State::Unknown { why: senseless(&other) },
    };
    State::Ended(End { is_well, how, on: Some(host.to_owned()), last: said.log })
}

#[cfg(test)]
mod tests;
