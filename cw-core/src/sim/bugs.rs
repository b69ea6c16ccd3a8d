//! Deliberate faults in the machines. What proves a simulator is that it finds those.
//!
//! They exist in tests and in the feature `sim` only; which is on is a matter of each thread.

use std::cell::Cell;

/// A deliberate fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// None of them.
    None,
    /// A client acknowledges a result before it is recorded.
    AckBeforeRecorded,
    /// What a client had handed in is not handed in again.
    ForgetSent,
    /// A client takes nothing of what it had handed in to have run.
    ForgetDispatched,
    /// A client does not acknowledge a result that it has already.
    AckNothingUnknown,
    /// A worker begins tasks without a lease.
    IgnoreLease,
    /// Results that were sent are not kept once the connection ends.
    LoseHeld,
    /// A worker sends results beyond the credit.
    IgnoreCredit,
    /// All tasks of a dead executor are blamed.
    BlameAll,
    /// A worker goes on with the tasks of a client that it is to forget.
    KeepForgotten,
    /// A worker does not say that it has said all.
    SayNotAccounted,
    /// A worker that is back does not tell of what runs.
    HideRunning,
    /// A task that is handed back is dropped.
    DropReturned,
    /// An attempt has the number of the one before.
    ReuseAttempt,
    /// A word about an attempt counts for any other of the task.
    IgnoreAttempt,
    /// What may have run is queued at once.
    SkipRecovery,
    /// All that a lost worker had is charged for the loss.
    ChargeAll,
    /// The room of a task that has ended is not given back.
    KeepRoom,
    /// A worker that was kept for one task stays so.
    KeepExclusive,
    /// A failure of an attempt that was given up is taken.
    TakeLateFailures,
    /// A worker that is back is not told the specs again.
    ForgetDeclare,
    /// A session ends with its connection.
    NoGrace,
    /// A session never ends by itself.
    GraceForEver,
    /// A crash counts as a failure.
    CrashIsFailure,
    /// A silent worker is never given up.
    NeverLost,
    /// Workers are waited for without end.
    AwaitForEver,
    /// What runs on a suspect worker runs elsewhere as well.
    SuspectRuns,
    /// What must not run twice does after a loss.
    RerunAll,
    /// A task whose result is on its way is taken in again.
    PassTwice,
    /// What any worker says of any task is passed on.
    BelieveStrangers,
    /// What a worker was given is taken to run.
    TrustWorkers,
    /// What must begin at once waits behind what is sent ahead.
    OnceLast,
    /// A task is tried once more than its retries allow.
    OneRetryMore,
    /// Tasks go to workers of any program.
    AnyProgram,
    /// A worker begins tasks of a client whose results pile up there.
    FeedBlocked,
    /// The client that has used most is served first.
    MostUsedFirst,
    /// A task whose arguments its client has not handed in is tried again without.
    TryClaims,
    /// A claimed result is acknowledged before it is recorded.
    AckClaims,
    /// Tasks go to executors of any program.
    AnyExecutor,
    /// A slot is never given to another program.
    KeepSlot,
    /// A worker's word that it cannot run a program is not heard.
    IgnoreUnfit,
    /// Tasks begin before what they share is there.
    SkipShares,
    /// Arguments that lie apart are forgotten once an executor was told where.
    DropApart,
    /// Shared values are forgotten while tasks that share them run.
    DropUsed,
    /// Tasks are sent to workers that end before they would be done.
    IgnoreEnds,
    /// A worker begins tasks that its time is too short for.
    BeginLate,
    /// What was laid aside for want of time stays there.
    LeaveAside,
    /// A client keeps what an older attempt saves over what a newer one has.
    TakeOldSaves,
    /// A worker asks once, whatever becomes of its connection.
    AskOnce,
    /// A question that could not be passed on is forgotten.
    ForgetQuestions,
    /// A task is given the answer to another question.
    AnswerAny,
}

/// All of them.
pub const ALL: &[Bug] = &[
    Bug::AckBeforeRecorded,
    Bug::ForgetSent,
    Bug::ForgetDispatched,
    Bug::AckNothingUnknown,
    Bug::IgnoreLease,
    Bug::LoseHeld,
    Bug::IgnoreCredit,
    Bug::BlameAll,
    Bug::KeepForgotten,
    Bug::SayNotAccounted,
    Bug::HideRunning,
    Bug::DropReturned,
    Bug::ReuseAttempt,
    Bug::IgnoreAttempt,
    Bug::SkipRecovery,
    Bug::ChargeAll,
    Bug::KeepRoom,
    Bug::KeepExclusive,
    Bug::TakeLateFailures,
    Bug::ForgetDeclare,
    Bug::NoGrace,
    Bug::GraceForEver,
    Bug::CrashIsFailure,
    Bug::NeverLost,
    Bug::AwaitForEver,
    Bug::SuspectRuns,
    Bug::RerunAll,
    Bug::PassTwice,
    Bug::BelieveStrangers,
    Bug::TrustWorkers,
    Bug::OnceLast,
    Bug::OneRetryMore,
    Bug::AnyProgram,
    Bug::FeedBlocked,
    Bug::MostUsedFirst,
    Bug::TryClaims,
    Bug::AckClaims,
    Bug::AnyExecutor,
    Bug::KeepSlot,
    Bug::IgnoreUnfit,
    Bug::SkipShares,
    Bug::DropApart,
    Bug::DropUsed,
    Bug::IgnoreEnds,
    Bug::BeginLate,
    Bug::LeaveAside,
    Bug::TakeOldSaves,
    Bug::AskOnce,
    Bug::ForgetQuestions,
    Bug::AnswerAny,
];

thread_local! {
    static PLANTED: Cell<Bug> = const { Cell::new(Bug::None) };
}

/// Whether this one is on.
pub(crate) fn is_planted(bug: Bug) -> bool {
    PLANTED.get() == bug
}

/// Switches one on, and all others off.
pub(super) fn plant(bug: Bug) {
    PLANTED.set(bug);
}
