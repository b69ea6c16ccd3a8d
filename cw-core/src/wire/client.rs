//! Between client and master.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Answer, Ask, Class, Head};
use crate::ids::{Attempt, JobIndex, ProgramId, SettingId, ShareId, SpecIndex, TaskId, WorkerId};

/// From a client to the master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromClient {
    /// A task; the body is its arguments.
    Submit {
        /// Its name.
        task: TaskId,
        /// What to run and how, declared before.
        spec: SpecIndex,
    },
    /// The client has these results (and recorded them, where it keeps a store): the worker may forget them.
    Received {
        /// The first task.
        first: TaskId,
        /// How many, with consecutive ids; at least 1.
        tasks: u32,
        /// The attempt whose result it took, of each.
        attempt: Attempt,
        /// The worker that ran it.
        worker: WorkerId,
    },
    /// What a spec index means from here on.
    Declare {
        /// The index; they are declared in order, from 0.
        spec: SpecIndex,
        /// Its meaning. Boxed, as all messages would be as big as the biggest.
        what: Box<Spec>,
    },
    /// The task's result is not wanted any more.
    Cancel {
        /// The task.
        task: TaskId,
    },
    /// The client is done: whatever it left behind is dropped.
    Leave,
    /// Whether somebody looks at the client's progress: then `Counts` and `Progress` come.
    Watch {
        /// Whether.
        on: bool,
    },
    /// As `Submit`, of a task that was handed in before and may have run: workers may have it, or its result.
    Resubmit {
        /// Its name.
        task: TaskId,
        /// What to run and how, declared before.
        spec: SpecIndex,
    },
    /// All that was handed in before has been handed in again: what workers have beside it is not wanted.
    Resubmitted {
        /// In how many messages, on this connection. Long ones may arrive after this one.
        tasks: u64,
    },
    /// The client knows what [`ToClient::DispatchedOnce`] said.
    Noted {
        /// The spec.
        spec: SpecIndex,
        /// As that said.
        below: TaskId,
    },
    /// As `Resubmit`, without the arguments, from the next process of a program: it wants what is there of the task. If
    /// nothing is, or what there was is lost, it ends as `Lost`.
    Claim {
        /// Its name.
        task: TaskId,
        /// What was run and how, declared before.
        spec: SpecIndex,
    },
    /// The client's results are worth a wait: should its connection end, its session is to be kept for so long.
    Keep {
        /// Seconds; a master keeps none for more than an hour.
        seconds: u32,
    },
    /// What workers have to know to run its tasks; the body says it to them. Comes before all else on a connection.
    Introduce {
        /// What its executors are started with, by hash.
        setting: SettingId,
        /// What it wants of what its tasks print.
        output: Output,
    },
    /// So much of what [`ToClient::Output`] brought has been taken in.
    Heard {
        /// Bytes.
        bytes: u32,
    },
    /// As `Submit`, of consecutive tasks; the body has their arguments as [`Entries`](super::Entries).
    Submits {
        /// The first task.
        first: TaskId,
        /// How many.
        tasks: u32,
        /// What to run and how, declared before.
        spec: SpecIndex,
    },
    /// The answer to what a task has asked; the body is what was asked for.
    Answers {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question.
        number: u32,
        /// What came of it.
        answer: Answer,
    },
    /// What a former master has learned of a job and said as [`ToClient::Learned`].
    Learned {
        /// One of the job's specs.
        spec: SpecIndex,
        /// Nine of ten tasks are done in so many microseconds.
        p90: u64,
        /// And on average they take so many.
        mean: u64,
    },
}

/// What a client wants of what its tasks print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Nothing.
    #[default]
    None,
    /// That of a task when it has ended.
    AtEnd,
    /// And what a task prints while it runs.
    Live,
}

/// From the master to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToClient {
    /// A task has ended for good; the body is its result or a [`Failure`](super::Failure).
    Finished {
        /// The task.
        task: TaskId,
        /// The last attempt, for the acknowledgement; 0 if it was never sent to a worker.
        attempt: Attempt,
        /// How many attempts have ended with an outcome, this one among them.
        attempts: u32,
        /// The worker to acknowledge to, if one keeps the result.
        worker: Option<WorkerId>,
        /// How it ended.
        class: Class,
        /// How long it ran, in microseconds.
        micros: u64,
        /// So many bytes at the body's end are what it printed.
        output: u32,
    },
    /// How much the client may have in flight from here on.
    Window(Window),
    /// Nothing of this client's has moved for a while, and why. Comes again when the reason changes.
    Stalled(Box<Stall>),
    /// The client's tasks move again.
    Moving,
    /// Where the client's tasks are, now and then, to a client that watches.
    Counts(Counts),
    /// How far a task has come, as it says itself; to a client that watches.
    Progress {
        /// The task.
        task: TaskId,
        /// Thousandths of the whole, at most 1,000.
        thousandths: u16,
    },
    /// No task from this one on has been sent to a worker yet, of those that may run twice.
    Dispatched {
        /// The first of those.
        below: TaskId,
    },
    /// A worker is sent no more tasks, as it fails one after the other.
    SetAside {
        /// The worker's name.
        worker: String,
        /// What happened there, in words.
        why: String,
    },
    /// A worker has something to say to the client's user.
    Remark {
        /// The worker's name.
        worker: String,
        /// What, in one line.
        what: Box<str>,
    },
    /// What a running task has printed just now; the body is that. Some of it may be left out.
    Output {
        /// The task.
        task: TaskId,
        /// How many bytes it had printed before.
        from: u64,
    },
    /// As `Finished`, of consecutive tasks that succeeded and printed nothing; the body has their run times and results as
    /// [`Entries`](super::Entries).
    Finishes {
        /// The first task.
        first: TaskId,
        /// How many.
        tasks: u32,
        /// The last attempt, of each.
        attempt: Attempt,
        /// How many attempts have ended with an outcome, of each.
        attempts: u32,
        /// The worker to acknowledge to.
        worker: WorkerId,
    },
    /// Tasks of a job take longer than any worker has time. They are tried all the same. Said once for each job.
    TooLong {
        /// One of the job's specs.
        spec: SpecIndex,
        /// Nine of ten tasks are done in so many seconds.
        p90_seconds: u32,
        /// The longest that any worker had when it joined.
        longest_seconds: u32,
    },
    /// A running task wants something; the body is what is to be kept, if anything is.
    Asks {
        /// The task.
        task: TaskId,
        /// The attempt.
        attempt: Attempt,
        /// Which question this is: grows within an attempt.
        number: u32,
        /// What it wants.
        ask: Ask,
    },
    /// What the tasks of a job take, as far as this master has learned it: the next one has to be told.
    Learned {
        /// One of the job's specs.
        spec: SpecIndex,
        /// Nine of ten tasks are done in so many microseconds; 0 if in less than a second.
        p90: u64,
        /// And on average they take so many.
        mean: u64,
    },
    /// As [`Dispatched`](Self::Dispatched), of the tasks of one spec, which must not run twice. The client says that it
    /// knows: none is sent before.
    DispatchedOnce {
        /// The spec.
        spec: SpecIndex,
        /// The first of its tasks that was not sent, nor any after it.
        below: TaskId,
    },
}

/// Where a client's tasks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Its tasks in slots, as far as the master can tell.
    pub running: u32,
    /// Workers that run its program.
    pub workers: u32,
    /// The slots of those.
    pub slots: u32,
}

/// How a task is to be run: the job and the options of the call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Spec {
    /// The job.
    pub job: JobIndex,
    /// How often an attempt that ended in an error, a panic or a timeout is followed by another.
    pub retries: u32,
    /// The how-manieth crash of its executor ends the task.
    pub crash_limit: u32,
    /// How long an attempt may run.
    pub timeout: Option<Duration>,
    /// Among one client's tasks the higher goes first.
    pub priority: i32,
    /// The how-manieth loss of a worker under it ends the task.
    pub loss_limit: u32,
    /// Whether it may run a second time while its worker is merely silent.
    pub speculate: bool,
    /// Whether an attempt that was lost may be followed by another at all.
    pub rerun: bool,
    /// Values that its tasks share, which a worker must have before they begin; in order, each once.
    pub shares: Vec<ShareId>,
    /// Whether what is sent with its tasks is an [`Apart`](super::Apart) in place of arguments.
    pub apart: bool,
}

/// How much of a client's work may be with the master: not finished, counted from submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Tasks, at least 1.
    pub tasks: u32,
    /// Bytes of arguments; a single task may exceed it.
    pub bytes: u64,
}

/// Why a client's tasks do not move.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stall {
    /// No worker is connected.
    NoWorker {
        /// Why, as whoever starts them says; none if nobody is known to.
        why: Option<String>,
    },
    /// All slots are busy with other clients' tasks, whose turn it is.
    Busy {
        /// How many slots.
        slots: u32,
    },
    /// Workers are connected, but they run other programs.
    OtherProgram {
        /// How many.
        workers: u32,
        /// The program of one of them.
        program: ProgramId,
        /// The file name of that program.
        program_name: String,
        /// The name of that worker.
        worker: String,
    },
    /// The workers that run its program have not been heard for a while.
    Silent {
        /// How many.
        workers: u32,
    },
    /// The master was started anew and waits for the workers of its predecessor, which may have the tasks.
    Recovering {
        /// How many have not come back yet.
        workers: u32,
    },
    /// The workers that run its program fail one task after the other.
    SetAside {
        /// How many.
        workers: u32,
        /// What happened at one of them, in words.
        why: String,
    },
    /// The tasks may have been what ended their workers: each waits for a worker to be free of all others.
    Quarantined {
        /// How many tasks.
        tasks: u32,
    },
    /// Workers were given the tasks and have begun none: their executors do not start, or they hang.
    NotBegun {
        /// How many tasks.
        tasks: u32,
    },
    /// All have ended, and their results wait at the workers.
    Held {
        /// How many tasks.
        tasks: u32,
    },
    /// Workers would run its program, and cannot.
    Unfit {
        /// How many.
        workers: u32,
        /// The name of one of them.
        worker: String,
        /// Why that one cannot, in one line.
        why: String,
    },
    /// Workers end before the tasks would be done.
    NoTime {
        /// Nine of ten of the tasks are done in so many seconds; 0 if nobody knows what they take.
        p90_seconds: u32,
        /// So much time has the worker that has most.
        left_seconds: u32,
    },
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker { why: None } => write!(f, "the cluster has no worker"),
            Self::NoWorker { why: Some(why) } => write!(f, "the cluster has no worker: {why}"),
            Self::Busy { slots } => write!(f, "all {slots} slots are busy with other clients' tasks"),
            Self::OtherProgram { workers, .. } => {
                write!(f, "none of the {workers} connected workers runs this build")
            }
            Self::Silent { workers } => write!(f, "{workers} workers have not been heard for a while"),
            Self::Recovering { workers } => {
                write!(
                    f,
                    "the master was started anew and waits for {workers} workers that may have the tasks"
                )
            }
            Self::SetAside { workers, why } => {
                write!(f, "{workers} workers are set aside, as they fail one task after the other: {why}")
            }
            Self::Quarantined { tasks } => {
                write!(f, "{tasks} tasks that may have ended their workers wait for a worker of their own")
            }
            Self::Held { tasks } => write!(f, "the results of {tasks} tasks wait at their workers"),
            Self::Unfit { workers, worker, why } => {
                write!(f, "none of {workers} workers can run this program; {worker}: {why}")
            }
            Self::NoTime { p90_seconds: 0, left_seconds } => {
                write!(f, "all workers are about to end, the last in {}", Seconds(*left_seconds))
            }
            Self::NoTime { p90_seconds, left_seconds } => {
                let (need, left) = (Seconds(*p90_seconds), Seconds(*left_seconds));
                write!(f, "the tasks take {need} (p90), and no worker has more than {left} left")
            }
            Self::NotBegun { tasks } => {
                write!(
                    f,
                    "workers were given {tasks} tasks and have begun none: their executors are not ready"
                )
            }
        }
    }
}

/// Seconds as people say them: the two largest units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub u32);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (self.0 / 86_400, "d"),
            (self.0 / 3_600 % 24, "h"),
            (self.0 / 60 % 60, "min"),
            (self.0 % 60, "s"),
        ];
        let first = units.iter().position(|(number, _)| *number > 0).unwrap_or(units.len() - 1);
        let said = units
            .iter()
            .skip(first)
            .take(2)
            .enumerate()
            .filter(|(place, (number, _))| *place == 0 || *number > 0);
        let words: Vec<String> = said.map(|(_, (number, unit))| format!("{number} {unit}")).collect();
        f.write_str(&words.join(" "))
    }
}

impl Head for FromClient {
    fn carries_body(&self) -> bool {
        matches!(
            self,
            Self::Submit { .. }
                | Self::Resubmit { .. }
                | Self::Introduce { .. }
                | Self::Submits { .. }
                | Self::Answers { .. }
        )
    }

    fn on_every_lane(&self) -> bool {
        matches!(self, Self::Declare { .. } | Self::Cancel { .. } | Self::Introduce { .. })
    }
}

impl Head for ToClient {
    fn carries_body(&self) -> bool {
        matches!(
            self,
            Self::Finished { .. } | Self::Output { .. } | Self::Finishes { .. } | Self::Asks { .. }
        )
    }
}
