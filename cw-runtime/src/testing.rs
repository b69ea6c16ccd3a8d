//! For the tests of programs with jobs: is every job fit to run, and how many run at once.

use crate::{
    Error, Result,
    client::session::{self, Mode},
    job,
    start::slots,
};

/// Checks what a program with these jobs checks when it starts: that no two share a name, and that their arguments and
/// results can cross the wire. Nothing is run.
///
/// Without values it cannot see all: a type that accepts no made-up values (a `Deserialize` that checks them) is not
/// looked into. A value of it that cannot cross is refused when the job is called.
///
/// # Errors
///
/// Every problem of every job linked into the program, a line each, which names job, argument and type, and says what
/// to do. Trying again does not help; the program has to be changed.
pub fn check_jobs() -> Result<()> {
    let problems = job::problems();
    if problems.is_empty() { Ok(()) } else { Err(Error::other(problems.join("\n"))) }
}

/// Lets jobs run in so many threads of this process, at least one; 0 stands for one per core, which is also the default.
///
/// It is for code that runs without `#[cw::main]` and `cw::init`, as tests do. Any number of tests may call it, also at
/// the same time: the first one counts, and after the first call of a job it changes nothing.
///
/// All tests of one file in `tests/`, and all unit tests of a crate, share one process and so its threads: a job that
/// blocks until another runs may wait for ever, and a job that ends the process ends all tests.
pub fn threads(slots: u32) {
    let slots = if slots == 0 { slots::detect(1) } else { slots };
    session::settle_first(Mode::Threads { slots });
}
