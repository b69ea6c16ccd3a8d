//! Workers, and the master if it is to be one, as jobs of Slurm: `cw start --slurm -n 64`.
//!
//! Each worker is a job, or a task of a job array, of its own: so Slurm places, requeues and ends each for itself. Jobs
//! are found by their names and by their comment, which has the fleet's id, never by a number that was given once: a
//! controller that comes back from an older state gives it again. `squeue` tells all that is known of them, also of those
//! that have ended, as long as the controller remembers (`MinJobAge`).

pub(crate) mod former;
pub(crate) mod logs;
mod parse;
mod script;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use super::{
    End, Launched, Launcher, Refused, State, What, command,
    command::{Answer, Failed, LIMIT},
    fleet::{self, Fleet, How},
    process, shell,
};
use crate::{access::ClusterDir, flag};
use parse::Phase;
pub(crate) use script::check_words;

/// How long `stop` waits for jobs to be gone. Slurm itself kills what does not end by the `KillWait` of its site, mostly
/// 30 s.
const STOP_WAIT: Duration = Duration::from_secs(60);

/// How often it looks; at first more often.
const STOP_PAUSE: Duration = Duration::from_secs(2);

/// How often those are cancelled again that are still there.
const CANCEL_EVERY: Duration = Duration::from_secs(15);

/// So often in a row a controller may fail to answer until `stop` gives up.
const FAILURES_MAX: u32 = 3;

/// So many jobs are cancelled by one command.
const CANCEL_MAX: usize = 500;

/// Which of them, where those that run are to go on.
const PENDING: [&str; 1] = ["--state=PENDING"];

/// So many lines of a log are shown.
const LINES_SHOWN: usize = 5;

/// Variables of Slurm's that say how its commands reach it; all others are of the job we may be in, or change what
/// commands do and answer.
const KEPT: [&str; 4] = ["SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_CONF_SERVER"];

/// Variables that `sbatch` would take options from that are ours.
const NOT_TAKEN: [&str; 7] = [
    "SBATCH_ARRAY_INX",
    "SBATCH_CLUSTERS",
    "SBATCH_COMMENT",
    "SBATCH_ERROR",
    "SBATCH_JOB_NAME",
    "SBATCH_OUTPUT",
    "SBATCH_WAIT",
];

/// A fleet that is under Slurm.
pub(crate) struct Slurm {
    fleet: Fleet,
    slurm: fleet::Slurm,
    dir: ClusterDir,
    logs: PathBuf,
    /// How jobs ended that did so badly.
    codes: BTreeMap<String, String>,
}

impl Slurm {
    /// Asks Slurm for nothing yet.
    pub(crate) fn new(fleet: &Fleet, dir: &ClusterDir) -> Self {
        let slurm = match &fleet.how {
            How::Slurm(slurm) => slurm.clone(),
            _ => fleet::Slurm::default(),
        };
        Self { fleet: fleet.clone(), slurm, dir: dir.clone(), logs: dir.log_folder(), codes: BTreeMap::new() }
    }

    /// Whether jobs can be submitted at all from here, as far as that is known without submitting one.
    ///
    /// # Errors
    /// There is no Slurm, its controller does not answer, or what is to be submitted makes no sense.
    pub(crate) fn check(&self) -> Result<(), Refused> {
        script::check_logs(&self.logs)?;
        if let Err(failed) = run(&mut ask("sbatch", ["--version"]), "") {
            return Err(match failed {
                Failed::Missing { command } => Refused(format!(
                    "there is no Slurm here: `{command}` is not to be found; start this on a machine from which jobs are submitted"
                )),
                other => other.into(),
            });
        }
        self.listed().map(drop)
    }

    /// Submits the master, whose command is this, program first. Gives its job.
    ///
    /// # Errors
    /// In Slurm's words.
    pub(crate) fn start_master(&self, words: &[String]) -> Result<String, Refused> {
        let text = script::master_script(&self.fleet, words);
        submit(&script::master(&self.fleet, &self.slurm, &self.logs), &text)
    }

    /// The same as text.
    pub(crate) fn plan_master(&self, words: &[String]) -> String {
        let text = script::master_script(&self.fleet, words);
        planned(&script::master(&self.fleet, &self.slurm, &self.logs), &text)
    }

    /// Cancels those that have not begun, so that none begins where another has just ended. Gives how many there were.
    ///
    /// # Errors
    /// In Slurm's words.
    pub(crate) fn cancel_pending(&self) -> Result<usize, Refused> {
        let mut left = self.listed()?;
        left.retain(|line| parse::phase(&line.state) == Phase::Pending);
        cancel(&to_cancel(&left, &BTreeMap::new()), &PENDING)?;
        Ok(left.len())
    }

    fn submit_workers(&self, count: u32) -> Result<Vec<String>, Refused> {
        let words = script::workers(&self.fleet, &self.slurm, &self.logs, count);
        let id = submit(&words, &script::worker_script(&self.fleet, &self.slurm))?;
        Ok(match count {
            1 => vec![id],
            _ => (0..count).map(|task| format!("{id}_{task}")).collect(),
        })
    }

    /// What has become of our jobs, and in words what there is of other fleets by this name.
    ///
    /// # Errors
    /// In Slurm's words.
    pub(crate) fn look_around(&mut self) -> Result<(Vec<Launched>, Option<String>), Refused> {
        let (lines, others) = self.listed_with_others()?;
        self.learn_codes(&lines);
        let launched = lines.iter().map(|line| self.launched(line)).collect();
        let (former, others) = former::split(&self.dir, others);
        Ok((launched, in_words(&former, &others)))
    }

    /// Our jobs, also those that have ended.
    fn listed(&self) -> Result<Vec<parse::Line>, Refused> {
        Ok(self.listed_with_others()?.0)
    }

    /// And those that are another fleet's by the same name.
    fn listed_with_others(&self) -> Result<(Vec<parse::Line>, Vec<parse::Line>), Refused> {
        let comment = script::comment(&self.fleet);
        Ok(listed(&self.fleet.cluster)?.into_iter().partition(|line| line.comment == comment))
    }

    /// Learns how those ended that are not known yet. Where Slurm does not tell it is left out.
    fn learn_codes(&mut self, lines: &[parse::Line]) {
        let bad = |line: &&parse::Line| parse::phase(&line.state) == Phase::EndedBadly;
        if lines.iter().filter(bad).all(|line| self.codes.contains_key(&line.id)) {
            return;
        }
        let mut command = squeue(&self.fleet.cluster);
        command.args(["-O", parse::CODES]);
        if let Ok(answer) = run(&mut command, "") {
            self.codes = cw_core::gathered(parse::codes(&answer.stdout));
        }
    }

    fn launched(&self, line: &parse::Line) -> Launched {
        let mut state = line.state(self.codes.get(&line.id).map(String::as_str));
        let what = parse::what(&line.name).expect("only such were listed");
        if let State::Ended(end) = &mut state
            && !end.is_well
        {
            end.last = self.last_lines(what, &line.id, end);
        }
        Launched { id: line.id.clone(), what, state }
    }

    /// The end of what a job has written, or why there is none.
    fn last_lines(&self, what: What, id: &str, end: &End) -> Vec<String> {
        let log = match what {
            What::Master => self.logs.join("master.log"),
            What::Worker => self.logs.join(logs::name(id)),
        };
        // Then a log of this name is that of an earlier job.
        if log.exists() && !parse::did_not_begin(&end.how) {
            return process::last_lines(&log, LINES_SHOWN);
        }
        let Some(on) = &end.on else { return Vec::new() };
        let (folder, log) = (self.slurm.folder.display(), log.display());
        vec![format!("{on} has not written {log}: are its folder and {folder} shared with it?")]
    }
}

impl Launcher for Slurm {
    fn start(&mut self, workers: u32) -> Result<Vec<String>, Refused> {
        let (mut started, mut size) = (Vec::new(), script::ARRAY_MAX);
        while (started.len() as u32) < workers {
            let count = size.min(workers - started.len() as u32);
            match self.submit_workers(count) {
                Ok(ids) => started.extend(ids),
                // An array of a site may be smaller than most, and a user may have fewer jobs.
                Err(refused) if count > 1 && is_about_numbers(&refused) => size = count / 2,
                Err(refused) if started.is_empty() => return Err(refused),
                // Whoever asks for the rest is told why not.
                Err(_) => break,
            }
        }
        Ok(started)
    }

    /// One by one: of an array others are to go on. A number may be another job's by now, so the name has to fit as well.
    fn withdraw(&mut self, ids: &[String]) -> Result<(), Refused> {
        let which = ours_in_line(&self.fleet.cluster);
        cancel(ids, &which.each_ref().map(String::as_str))
    }

    fn look(&mut self) -> Result<Vec<Launched>, Refused> {
        Ok(self.look_around()?.0)
    }

    fn stop(&mut self) -> Result<(), Refused> {
        let list = || {
            let mut left = self.listed()?;
            left.retain(|line| matches!(parse::phase(&line.state), Phase::Pending | Phase::Running));
            Ok(left)
        };
        end_all(&self.fleet.cluster, &list)
    }

    fn how(&self) -> How {
        How::Slurm(self.slurm.clone())
    }

    fn plan(&self, workers: u32) -> String {
        let count = workers.min(script::ARRAY_MAX);
        let words = script::workers(&self.fleet, &self.slurm, &self.logs, count);
        planned(&words, &script::worker_script(&self.fleet, &self.slurm))
    }
}

/// Jobs of this user's by the names of this cluster, also those that have ended.
fn listed(cluster: &str) -> Result<Vec<parse::Line>, Failed> {
    let mut command = squeue(cluster);
    command.args(["-o", parse::FORMAT]);
    let Answer { stdout, .. } = run(&mut command, "")?;
    let mut lines = parse::lines(&stdout);
    lines.retain(|line| parse::what(&line.name).is_some());
    Ok(lines)
}

/// Workers of ours that have not begun, as words of `scancel`.
pub(crate) fn ours_in_line(cluster: &str) -> [String; 3] {
    let name = script::name(cluster, What::Worker);
    [PENDING[0].to_owned(), format!("--name={name}"), format!("--user={}", user())]
}

fn user() -> String {
    rustix::process::getuid().as_raw().to_string()
}

fn squeue(cluster: &str) -> Command {
    let names = [What::Worker, What::Master].map(|what| script::name(cluster, what)).join(",");
    let user = user();
    // A task of an array each; by number, as not all Slurms know `--me`.
    ask("squeue", ["-h", "-r", "-u", &user, "-t", "all", "-n", &names])
}

/// Waits until none of those that are listed is there, having cancelled all.
fn end_all(cluster: &str, list: &dyn Fn() -> Result<Vec<parse::Line>, Refused>) -> Result<(), Refused> {
    let deadline = Instant::now() + STOP_WAIT;
    let (mut failures, mut pause) = (0, Duration::from_millis(100));
    let mut cancelled: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let round = list().and_then(|left| {
            let cancels = to_cancel(&left, &cancelled);
            cancel(&cancels, &[])?;
            cancelled.extend(cancels.into_iter().map(|id| (id, Instant::now())));
            Ok(left)
        });
        match round {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) if Instant::now() > deadline => return Err(remains(cluster, &left)),
            Ok(_) => failures = 0,
            Err(refused) => {
                failures += 1;
                if failures >= FAILURES_MAX || Instant::now() > deadline {
                    return Err(unknown(&refused));
                }
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(STOP_PAUSE);
    }
}

fn remains(cluster: &str, left: &[parse::Line]) -> Refused {
    const NAMED_MAX: usize = 5;
    let named: Vec<_> = left
        .iter()
        .take(NAMED_MAX)
        .map(|line| match line.nodes.as_str() {
            "" => format!("{} ({})", line.id, line.state),
            nodes => format!("{} ({} on {nodes})", line.id, line.state),
        })
        .collect();
    let more = left.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Refused(format!(
        "{} s after they were cancelled Slurm still has jobs of `{cluster}`: {}{more}",
        STOP_WAIT.as_secs(),
        named.join(", ")
    ))
}

fn unknown(refused: &Refused) -> Refused {
    Refused(format!(
        "jobs that Slurm does not tell of ({refused}): run `{}` again once it answers",
        flag::verb("stop")
    ))
}

/// What is there of other fleets: of those that were ended here, which the controller has brought back, and of those
/// that were not: they are of another `CW_HOME`, or of a folder that is no more, so nothing is done about them.
fn in_words(former: &[parse::Line], others: &[parse::Line]) -> Option<String> {
    let mut parts = Vec::new();
    if let Some((jobs, ids)) = named(former) {
        let stop = flag::verb("stop");
        parts.push(format!("{jobs} of an earlier `cw start`, which `{stop}` ends: {ids}"));
    }
    if let Some((jobs, ids)) = named(others) {
        parts.push(format!(
            "{jobs} of another `cw start` by this name: unless it has another CW_HOME, `scancel {ids}`"
        ));
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// How many, and which.
fn named(lines: &[parse::Line]) -> Option<(&'static str, String)> {
    const NAMED_MAX: usize = 20;
    let ids = to_cancel(lines, &BTreeMap::new());
    let shown = ids.iter().take(NAMED_MAX).map(String::as_str).collect::<Vec<_>>().join(" ");
    (!ids.is_empty()).then_some((if ids.len() == 1 { "a job" } else { "jobs" }, shown))
}

/// Those of these that were not cancelled just now. An array that is there as a whole is cancelled as one.
fn to_cancel(left: &[parse::Line], cancelled: &BTreeMap<String, Instant>) -> Vec<String> {
    let is_due = |id: &String| cancelled.get(id).is_none_or(|at| at.elapsed() > CANCEL_EVERY);
    // All tasks of an array have its comment.
    let ids: BTreeSet<String> =
        cw_core::gathered(left.iter().map(|line| line.id.split('_').next().unwrap_or_default().to_owned()));
    ids.into_iter().filter(is_due).collect()
}

fn cancel(ids: &[String], which: &[&str]) -> Result<(), Refused> {
    for ids in ids.chunks(CANCEL_MAX) {
        match run(ask("scancel", [] as [&str; 0]).args(which).args(ids), "") {
            Ok(_) => {}
            // One that has just ended is none to complain about; what is left is seen.
            Err(Failed::Refused { words, .. }) if words.contains("Invalid job id") => {}
            Err(Failed::Refused { words, .. }) if words.contains("already completing or completed") => {}
            Err(failed) => return Err(failed.into()),
        }
    }
    Ok(())
}

fn submit(words: &[String], script: &str) -> Result<String, Refused> {
    let answer = run(ask("sbatch", [] as [&str; 0]).args(words), script)?;
    parse::submitted(&answer.stdout).ok_or_else(|| {
        let said = command::in_one_line(&answer.stdout);
        Refused(format!("sbatch answered `{said}`, which names no job"))
    })
}

fn planned(words: &[String], script: &str) -> String {
    format!("sbatch {} <<'EOF'\n{script}EOF\n", shell::line(words))
}

/// Whether fewer might not be refused. Slurm says it in these words: `Invalid job array specification`,
/// `QOSMaxSubmitJobPerUserLimit`, `AssocMaxSubmitJobLimit`. A job that is too large by itself is refused in others.
fn is_about_numbers(refused: &Refused) -> bool {
    let words = &refused.0;
    words.contains("array specification") || words.contains("Submit") && words.contains("Limit")
}

fn run(command: &mut Command, input: &str) -> Result<Answer, Failed> {
    command::run(command, input.as_bytes(), LIMIT).map_err(|failed| match failed {
        Failed::Refused { command, status, words } => {
            let words = parse::bare(&words, &command);
            Failed::Refused { command, status, words }
        }
        other => other,
    })
}

/// A command of Slurm's, as it is outside of all jobs and without what users have set for themselves.
fn ask<const N: usize>(name: &str, words: [&str; N]) -> Command {
    let mut command = Command::new(name);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_foreign) {
            command.env_remove(name);
        }
    }
    command.args(words);
    command
}

fn is_foreign(variable: &str) -> bool {
    let of_job = variable.starts_with("SLURM") && !KEPT.contains(&variable);
    let of_asking = ["SQUEUE_", "SCANCEL_"].iter().any(|it| variable.starts_with(it));
    of_job || of_asking || NOT_TAKEN.contains(&variable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_jobs_of_other_fleets_are_named() {
        let lines = |ids: &[&str]| {
            ids.iter()
                .flat_map(|id| parse::lines(&format!("{id}|RUNNING|cw1|cw-lab-worker|cw:aa|None")))
                .collect::<Vec<_>>()
        };
        assert_eq!(in_words(&[], &[]), None);
        let others = "a job of another `cw start` by this name: unless it has another CW_HOME, `scancel 7`";
        assert_eq!(in_words(&[], &lines(&["7_0", "7_1"])).as_deref(), Some(others));
        let former = "jobs of an earlier `cw start`, which `cw stop` ends: 5 6";
        assert_eq!(in_words(&lines(&["6", "5_2"]), &[]).as_deref(), Some(former));
        assert_eq!(in_words(&lines(&["5", "6"]), &lines(&["7"])).unwrap(), format!("{former}; {others}"));
    }

    #[test]
    fn fewer_are_tried_where_so_many_are_too_many() {
        let refused = |words: &str| is_about_numbers(&Refused(words.to_owned()));
        let policy = "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)";
        assert!(refused("sbatch: Batch job submission failed: Invalid job array specification"));
        assert!(refused(&format!("sbatch: QOSMaxSubmitJobPerUserLimit; {policy}")));
        assert!(refused(&format!("sbatch: AssocMaxSubmitJobLimit; {policy}")));
        assert!(!refused(&format!("sbatch: QOSMaxWallDurationPerJobLimit; {policy}")));
        assert!(!refused("sbatch: Batch job submission failed: Invalid qos specification"));
    }

    #[test]
    fn variables_that_change_what_is_ours_do_not_reach_slurms_commands() {
        for foreign in ["SLURM_JOB_ID", "SQUEUE_FORMAT", "SCANCEL_STATE", "SBATCH_CLUSTERS", "SBATCH_ERROR"] {
            assert!(is_foreign(foreign), "{foreign}");
        }
        for fine in ["SLURM_CONF", "SBATCH_PARTITION", "SBATCH_ACCOUNT", "PATH"] {
            assert!(!is_foreign(fine), "{fine}");
        }
    }
}
