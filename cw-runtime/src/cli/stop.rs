//! `cw stop`: nothing of a cluster is left.
//!
//! 1. Jobs that have not begun are cancelled: none is to begin where a worker has just left.
//! 2. The master has all workers leave, which counts against no task, and ends.
//! 3. A master of this machine that did not answer is ended as a process: the one that holds the cluster's lock, so that it
//!    is never another one's number.
//! 4. What `cw start` started is ended by its launcher: jobs that pend, workers that never came, and those of a master that
//!    is dead.
//! 5. The fleet's file goes, once nothing of it is left; what is left is named.
//! 6. Jobs of fleets that were ended here before, which Slurm has again, are ended too.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use clap::Args;

use super::start::{Screen, Turn};
use crate::{
    access::{ClusterDir, keys::Holder},
    exit::{self, Trouble},
    flag,
    launch::{
        self, Launched, Refused, State,
        fleet::{Fleet, How, MasterAt},
        process::{self, Known},
        slurm::{Slurm, former},
    },
    net::tls::Peer,
    observe::Observer,
    program,
};

/// How long a master is tried to be reached.
const CONNECT_WAIT: Duration = Duration::from_secs(3);

/// How long it may take once it was told to end: its workers hand back what they have.
const MASTER_WAIT: Duration = Duration::from_secs(30);

/// How long a process that was told to end is waited for until it is killed.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// How often it is said what is still waited for.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// End a cluster: its workers, its master, and all that `cw start` has started for it
#[derive(Args, Clone, Debug)]
pub(super) struct Stop {
    /// The cluster
    #[arg(long, env = "CW_CLUSTER", value_name = "NAME", default_value = flag::DEFAULT_CLUSTER)]
    cluster: String,
}

/// What has come of it.
#[derive(Default)]
struct Stopped {
    /// Jobs that had not begun.
    cancelled: usize,
    /// Jobs of fleets that were ended before.
    former: usize,
    /// What has ended.
    ended: Vec<String>,
    /// What is left, and why.
    left: Vec<String>,
    /// A master on another machine, which did not do what it was asked to: its job may be ended, if it is one.
    elsewhere: Option<String>,
}

impl Stop {
    pub(super) fn run(&self) -> Result<u8, Trouble> {
        let dir = ClusterDir::locate(&self.cluster)?;
        flag::set_cluster(&self.cluster);
        let mut screen = Screen::new();
        // Where there is no folder, there is nothing that another one could change.
        let _turn = match dir.path().exists() {
            true => Some(Turn::of("stop").take(&dir, &mut screen)?),
            false => None,
        };
        let fleet = dir.read_fleet()?;
        let mut stopped = Stopped::default();
        if let Some(fleet) = &fleet {
            stopped.cancel_pending(&dir, fleet, &mut screen);
        }
        let stays = match &fleet {
            Some(Fleet { master: MasterAt::There, .. }) => dir.exists(Peer::Client) && !dir.has_dead_master(),
            _ => {
                stopped.end_master(&dir, &mut screen);
                false
            }
        };
        let slurm = fleet.as_ref().filter(|fleet| matches!(fleet.how, How::Slurm(_)));
        let slurm = slurm.map(|fleet| Slurm::new(fleet, &dir));
        match fleet {
            Some(fleet) => stopped.end_fleet(&dir, fleet, &mut screen)?,
            None => stopped.judge_elsewhere(None, false),
        }
        let unknown = stopped.end_former(&dir, slurm.is_some(), &mut screen);
        let nothing = match slurm {
            Some(slurm) => nothing_left(slurm, stopped.left.is_empty()),
            None if stopped.former > 0 => "; no job is left".to_owned(),
            None => unknown,
        };
        drop(screen);
        stopped.tell(&self.cluster, &nothing, stays)
    }
}

impl Stopped {
    /// Should that not go well, the same engine is asked again later, and told of then.
    fn cancel_pending(&mut self, dir: &ClusterDir, fleet: &Fleet, screen: &mut Screen) {
        if !matches!(fleet.how, How::Slurm(_)) {
            return;
        }
        screen.show("cancelling what has not begun");
        if let Ok(count @ 1..) = Slurm::new(fleet, dir).cancel_pending() {
            self.cancelled = count;
        }
    }

    /// Those that Slurm has again. Gives what is said if it does not tell and nothing else was asked of it.
    fn end_former(&mut self, dir: &ClusterDir, is_slurm: bool, screen: &mut Screen) -> String {
        // What it does not tell of ours it does not tell of those either.
        if is_slurm && !self.left.is_empty() {
            return String::new();
        }
        screen.show("looking for jobs of earlier starts");
        match former::end(dir) {
            Ok((count, Ok(()))) => self.former = count,
            Ok((_, Err(refused))) => self.left.push(refused.to_string()),
            Err(refused) if is_slurm => self.left.push(refused.to_string()),
            Err(refused) => return format!("; whether Slurm has jobs of it again is not known ({refused})"),
        }
        if self.former > 0 {
            self.ended.push(format!("{} of an earlier `cw start`", plural(self.former, "job")));
        }
        String::new()
    }

    fn end_master(&mut self, dir: &ClusterDir, screen: &mut Screen) {
        let mut why = None;
        // One that is dead for sure need not be tried.
        if dir.exists(Peer::Client) && !dir.has_dead_master() {
            screen.show("looking for the master");
            let process = master_here(dir);
            match ask_to_stop(dir.cluster(), screen) {
                Ok(what) => {
                    self.ended.push(what);
                    return self.left.extend(await_end(process));
                }
                Err(trouble) => why = Some(trouble.to_string()),
            }
        }
        if let Some(holder) = dir.master_holder() {
            self.end_holder(&holder, why, screen);
        }
    }

    /// A master that runs and did not do what it was asked to.
    fn end_holder(&mut self, holder: &Holder, why: Option<String>, screen: &mut Screen) {
        let Holder { pid: Some(pid), host: Some(host) } = holder else {
            return self
                .left
                .push(format!("a master that does not say where it runs ({})", why.unwrap_or_default()));
        };
        if *host != program::host_name() {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            let line = format!("the master, process {pid} on {host}, which has to be ended there{why}");
            self.elsewhere = Some(line);
            return;
        }
        let Some(began) = process::began(*pid) else { return };
        screen.show(&format!("ending the master, process {pid}"));
        match process::end(&[(*pid, began)], KILL_WAIT).is_empty() {
            true => self.ended.push(format!("the master (process {pid}, which did not answer)")),
            false => self.left.push(format!("the master, process {pid}, which cannot be killed")),
        }
    }

    fn end_fleet(&mut self, dir: &ClusterDir, mut fleet: Fleet, screen: &mut Screen) -> Result<(), Trouble> {
        // Those that run are then the workers that have just been told of.
        let is_told = !self.ended.is_empty();
        let (before, how, ended) = end_launched(dir, &fleet, screen);
        self.judge_elsewhere(Some(&fleet.master), ended.is_ok());
        match ended {
            Ok(()) => {
                let before = Before { pend: before.pend + self.cancelled, ..before };
                self.ended.extend(before.words(is_told));
            }
            Err(refused) => self.left.push(refused.to_string()),
        }
        if self.left.is_empty() {
            return Ok(dir.remove_fleet()?);
        }
        fleet.how = how;
        Ok(dir.write_fleet(&fleet)?)
    }

    /// A master that was a job has ended with all jobs of its fleet. Any other is left where it is.
    fn judge_elsewhere(&mut self, master: Option<&MasterAt>, has_ended: bool) {
        let Some(line) = self.elsewhere.take() else { return };
        match master {
            Some(MasterAt::Job { id }) if has_ended => {
                self.ended.push(format!("the master (job {id}, which did not answer)"));
            }
            _ => self.left.push(line),
        }
    }

    fn tell(self, cluster: &str, nothing: &str, stays: bool) -> Result<u8, Trouble> {
        let ended = self.ended.join(", ");
        if !self.left.is_empty() {
            let ended = if ended.is_empty() { ended } else { format!(" (ended: {ended})") };
            let line = format!("of the cluster `{cluster}` is left: {}{ended}", self.left.join("; "));
            return Err(Trouble::new(exit::LAUNCH, line));
        }
        let stays =
            if stays { "; its master was there before and stays: `cw stop` once more ends it" } else { "" };
        super::print(&match ended.as_str() {
            "" => format!("nothing of the cluster `{cluster}` is left to end{nothing}{stays}\n"),
            _ => format!("the cluster `{cluster}` has ended: {ended}{nothing}{stays}\n"),
        })
    }
}

/// The process of the cluster's master, if it is one of this machine.
pub(super) fn master_here(dir: &ClusterDir) -> Option<Known> {
    let Holder { pid: Some(pid), host: Some(host) } = dir.master_holder()? else { return None };
    let start = process::began(pid)?;
    (host == program::host_name()).then_some((pid, start))
}

/// A master that has said that it ends has closed its connections; its process ends a moment later. Gives what is left.
pub(super) fn await_end(process: Option<Known>) -> Option<String> {
    let left = process::wait(process.as_slice(), KILL_WAIT);
    let left = process::end(&left, KILL_WAIT);
    left.first().map(|(pid, _)| format!("the master, process {pid}, which cannot be killed"))
}

fn ask_to_stop(cluster: &str, screen: &mut Screen) -> Result<String, Trouble> {
    let mut master = Observer::connect(cluster, CONNECT_WAIT)?;
    screen.show("having the workers leave and the master end");
    let standing = master.look()?;
    master.stop(MASTER_WAIT)?;
    let workers = match standing.workers.len() {
        0 => String::new(),
        1 => " and 1 worker".to_owned(),
        count => format!(" and {count} workers"),
    };
    Ok(format!("the master ({}){workers}", standing.name))
}

/// Ends what was started, and says meanwhile what is waited for. Gives what there was, and how the fleet is afterwards.
fn end_launched(dir: &ClusterDir, fleet: &Fleet, screen: &mut Screen) -> (Before, How, Result<(), Refused>) {
    let mut watching = launch::launcher(fleet, dir);
    let what = match &fleet.how {
        How::Slurm(_) => "job",
        How::Local(_) => "process",
        How::Ssh(_) => "host",
    };
    screen.show(&format!("looking for {}", &plural(2, what)[2..]));
    let before = Before::of(&watching.look().unwrap_or_default(), what);
    let (send, ended) = channel();
    let mut launcher = launch::launcher(fleet, dir);
    let body = move || {
        let stopped = launcher.stop();
        let _ = send.send((launcher.how(), stopped));
    };
    if let Err(error) = thread::Builder::new().name("cw-stop".to_owned()).spawn(body) {
        return (before, fleet.how.clone(), Err(Refused(error.to_string())));
    }
    loop {
        match ended.recv_timeout(SAY_EVERY) {
            Ok((how, result)) => return (before, how, result),
            Err(RecvTimeoutError::Timeout) => {
                screen.show(&match watching.look() {
                    Ok(launched) => waiting(live(&launched), what),
                    Err(refused) => refused.to_string(),
                });
            }
            Err(RecvTimeoutError::Disconnected) => {
                return (before, fleet.how.clone(), Err(Refused("its end was not seen".to_owned())));
            }
        }
    }
}

/// What there was to be ended.
struct Before {
    what: &'static str,
    run: usize,
    pend: usize,
}

impl Before {
    fn of(launched: &[Launched], what: &'static str) -> Self {
        let pend = launched.iter().filter(|it| matches!(it.state, State::Pending { .. })).count();
        Self { what, run: live(launched) - pend, pend }
    }

    fn words(&self, without_running: bool) -> impl Iterator<Item = String> {
        let run = (self.run > 0 && !without_running).then(|| plural(self.run, self.what));
        let pend = (self.pend > 0).then(|| format!("{} that did not run yet", plural(self.pend, self.what)));
        run.into_iter().chain(pend)
    }
}

/// What is said of jobs when none of ours is left: there may be others by the same name.
fn nothing_left(mut slurm: Slurm, is_well: bool) -> String {
    let others = is_well.then(|| slurm.look_around().ok()?.1).flatten();
    let others = others.map(|others| format!(", but {others}")).unwrap_or_default();
    format!("; no job is left{others}")
}

/// What is said while so many have not ended.
fn waiting(count: usize, what: &str) -> String {
    match count {
        0 => "looking whether all has ended".to_owned(),
        _ => format!("waiting for the end of {}", plural(count, what)),
    }
}

fn live(launched: &[Launched]) -> usize {
    launched.iter().filter(|it| !matches!(it.state, State::Ended(_))).count()
}

fn plural(count: usize, what: &str) -> String {
    match (count, what) {
        (1, what) => format!("1 {what}"),
        (2.., "process") => format!("{count} processes"),
        (count, what) => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_on_another_machine_is_left_unless_it_was_a_job_that_has_ended() {
        let job = MasterAt::Job { id: "7".to_owned() };
        let here = MasterAt::Here { host: "login2".to_owned(), pid: 9 };
        let line = "the master, process 9 on login2, which has to be ended there";
        for (master, has_ended, is_left) in [
            (Some(&job), true, false),
            (Some(&job), false, true),
            (Some(&here), true, true),
            (None, false, true),
        ] {
            let mut stopped = Stopped { elsewhere: Some(line.to_owned()), ..Stopped::default() };
            stopped.judge_elsewhere(master, has_ended);
            let (left, ended) = (stopped.left.join(", "), stopped.ended.join(", "));
            match is_left {
                true => assert_eq!((left.as_str(), ended.as_str()), (line, "")),
                false => assert_eq!(
                    (left.as_str(), ended.as_str()),
                    ("", "the master (job 7, which did not answer)")
                ),
            }
        }
        let mut stopped = Stopped::default();
        stopped.judge_elsewhere(Some(&job), true);
        assert!(stopped.ended.is_empty() && stopped.left.is_empty(), "there was none");
    }

    #[test]
    fn nobody_waits_for_nothing() {
        assert_eq!(waiting(0, "job"), "looking whether all has ended");
        assert_eq!(waiting(1, "process"), "waiting for the end of 1 process");
        assert_eq!(waiting(2, "process"), "waiting for the end of 2 processes");
    }
}
