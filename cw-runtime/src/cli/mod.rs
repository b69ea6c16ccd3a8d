//! The verbs of the installed binary, `cw master`, `cw worker`, `cw results ..`; and of a user's program, which knows its
//! types: `./sim cw results ..`.

mod results;
mod serve;
mod start;
mod status;
mod stop;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::{
    exit::Trouble,
    flag::{self, CLUSTER_VERB},
    start::note_of_worker,
};

/// Cluster-Workers: start and serve a standing cluster, on which programs of cw run; look at what they have recorded
#[derive(Parser)]
#[command(name = "cw", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Route tasks and results between the programs of a cluster and its workers
    Master(serve::Master),
    /// Run the tasks of any program of the cluster on this machine
    Worker(serve::Worker),
    Start(Box<start::Start>),
    Status(status::Status),
    Stop(stop::Stop),
    Results(results::Results),
}

/// Does what the words after the program's name say.
pub(crate) fn run(words: impl Iterator<Item = String>) -> u8 {
    let words: Vec<String> = words.collect();
    let code = match Cli::try_parse_from(std::iter::once("cw").chain(words.iter().map(String::as_str))) {
        Err(error) => {
            note_of_worker(&words, words.first().is_some_and(|verb| verb == "worker"), &error);
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(crate::exit::USAGE)
        }
        Ok(Cli { verb: Verb::Master(master) }) => master.run(),
        Ok(Cli { verb: Verb::Worker(worker) }) => worker.run(),
        Ok(Cli { verb: Verb::Start(start) }) => told(start.run()),
        Ok(Cli { verb: Verb::Status(status) }) => told(status.run()),
        Ok(Cli { verb: Verb::Stop(stop) }) => told(stop.run()),
        Ok(Cli { verb: Verb::Results(results) }) => told(results.run()),
    };
    crate::stderr::flush();
    code
}

fn told(result: Result<u8, Trouble>) -> u8 {
    result.unwrap_or_else(|trouble| trouble.report())
}

/// Writes text to stdout; gives the exit code of success.
fn print(text: &str) -> Result<u8, Trouble> {
    match io::stdout().write_all(text.as_bytes()) {
        // Whoever reads this has seen enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(0),
    }
}

/// What the installed `cw` does.
#[doc(hidden)]
pub fn main() -> ExitCode {
    flag::set_verbs();
    ExitCode::from(run(std::env::args().skip(1)))
}

/// Whether a program's command line is one of cw's verbs: its first word is `cw`.
pub(crate) fn is_called() -> bool {
    std::env::args().nth(1).is_some_and(|word| word == CLUSTER_VERB)
}

/// Does what follows that word.
pub(crate) fn called() -> u8 {
    run(std::env::args().skip(2))
}
