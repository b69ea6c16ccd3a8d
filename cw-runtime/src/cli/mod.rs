//! The verbs: `cw results ..` of the installed binary, `./sim cw results ..` of a user's program, which knows its types.

mod results;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::{exit::Trouble, flag::CLUSTER_VERB};

/// Cluster-Workers: look at what programs have recorded
#[derive(Parser)]
#[command(name = "cw", version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Results(results::Results),
}

/// Does what the words after the program's name say.
pub(crate) fn run(words: impl Iterator<Item = String>) -> u8 {
    let words = std::iter::once("cw".to_owned()).chain(words);
    let code = match Cli::try_parse_from(words) {
        Err(error) => {
            let _ = error.print();
            u8::try_from(error.exit_code()).unwrap_or(crate::exit::USAGE)
        }
        Ok(Cli { verb: Verb::Results(results) }) => {
            results.run().unwrap_or_else(|trouble: Trouble| trouble.report())
        }
    };
    crate::stderr::flush();
    code
}

/// What the installed `cw` does.
#[doc(hidden)]
pub fn main() -> ExitCode {
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
