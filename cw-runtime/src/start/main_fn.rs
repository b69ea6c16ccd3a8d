//! What `#[cw::main]` and `init` do: become an executor, a master or a worker, or prepare a client.

use std::{
    future::Future,
    path::PathBuf,
    process::{ExitCode, Termination},
};

use clap::{Args, Command, CommandFactory, FromArgMatches, Parser};

use super::{
    flags::{ClusterFlags, RoleFlag},
    help,
    roles::{Next, enter, last_note},
    step::Step,
};
use crate::{
    cli,
    client::session,
    executor::{nonce, process},
    exit::{self, Trouble},
    flag,
};

/// The options of a program that has none.
// Without its own `about` the line above would be the program's in `--help`.
#[derive(Args, Debug)]
#[command(about = None, long_about = None)]
#[group(skip)]
pub struct NoOpts {}

/// What `#[cw::main]` knows of the program.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// The package's name.
    pub name: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// The package's description; may be empty.
    pub about: &'static str,
    /// What the names of cw's flags begin with; may be empty.
    pub prefix: &'static str,
}

/// Options of a program: any struct that derives `clap::Args`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a set of command-line options",
    label = "`#[cw::main]` needs `clap::Args` here",
    note = "derive `clap::Args` (or `clap::Parser`) for it; subcommands go into a field with `#[command(subcommand)]`"
)]
// Methods, and neither functions with the trait as a bound nor a supertrait: the compiler would show users those too.
pub trait MainArgs: Sized {
    /// Runs an async `main` in the client's role.
    fn main_async<F: Future<Output: MainResult>>(program: Program, body: impl FnOnce(Self) -> F) -> ExitCode;

    /// Runs a `main` in the client's role.
    fn main_sync<T: MainResult>(program: Program, body: impl FnOnce(Self) -> T) -> ExitCode;
}

#[diagnostic::do_not_recommend]
impl<A: Args> MainArgs for A {
    fn main_async<F: Future<Output: MainResult>>(program: Program, body: impl FnOnce(Self) -> F) -> ExitCode {
        main_async(program, body)
    }

    fn main_sync<T: MainResult>(program: Program, body: impl FnOnce(Self) -> T) -> ExitCode {
        main_sync(program, body)
    }
}

/// What a `main` may return.
#[diagnostic::on_unimplemented(
    message = "`main` cannot return `{Self}`",
    label = "no process can end with this",
    note = "return nothing, `cw::Result<()>`, any other `Result<(), E>` whose `E` is `Debug`, or a `std::process::ExitCode`"
)]
pub trait MainResult: Termination {}

#[diagnostic::do_not_recommend]
impl<T: Termination> MainResult for T {}

#[derive(Parser)]
struct Cli<A: Args> {
    #[command(flatten)]
    user: A,
    #[command(flatten)]
    cluster: ClusterFlags,
}

#[derive(Parser)]
struct ClusterOnly {
    #[command(flatten)]
    cluster: ClusterFlags,
}

fn main_async<A: Args, F: Future<Output: Termination>>(
    program: Program,
    body: impl FnOnce(A) -> F,
) -> ExitCode {
    main_sync(program, |options: A| {
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return ExitCode::from(Trouble::from(error).report()),
        };
        let code = runtime.block_on(async { body(options).await.report() });
        // What the program left running must not keep it from ending.
        runtime.shutdown_background();
        code
    })
}

fn main_sync<A: Args, T: Termination>(program: Program, body: impl FnOnce(A) -> T) -> ExitCode {
    if nonce::is_executor() {
        return ExitCode::from(process::main());
    }
    if cli::is_called() {
        return ExitCode::from(cli::called());
    }
    match read_flags::<A>(program) {
        Err(code) => code,
        Ok(options) => {
            // Also when `main` panics: the cluster need not wait for the silence.
            let mut at_end = CloseAtEnd { is_well: false };
            let code = body(options).report();
            at_end.is_well = code == ExitCode::SUCCESS;
            drop(at_end);
            exit::with_fatal(code)
        }
    }
}

/// Reads the flags and enters the role they name; gives the program's own options if that is a client's.
///
/// The command line is parsed twice: first with nothing required, read only for the cluster's flags, as a
/// worker is started with a program's own flags or without, and reads none of them. A client is parsed in full.
fn read_flags<A: Args>(program: Program) -> Result<A, ExitCode> {
    flag::set_prefix(program.prefix);
    let mut command = with_prefixes(Cli::<A>::command().name(program.name));
    if command.get_version().is_none() {
        command = command.version(program.version);
    }
    if command.get_about().is_none() && !program.about.is_empty() {
        command = command.about(program.about);
    }
    if command.get_after_help().is_none() && command.get_after_long_help().is_none() {
        command = command.after_long_help(help::on_clusters());
    }
    if let Some(flag) = taken_flag::<A>() {
        let line = format!(
            "the option `--{flag}` of this program is one of cw's; give its field another name, `#[arg(long = \"..\")]`, or cw's a prefix, `#[cw::main(prefix = \"cw-\")]`"
        );
        return Err(ExitCode::from(Trouble::new(exit::USAGE, line).report()));
    }
    match relaxed(command.clone()).try_get_matches() {
        Ok(matches) => {
            if let Ok(flags) = ClusterFlags::from_arg_matches(&matches)
                && matches!(flags.role, Some(RoleFlag::Master | RoleFlag::Worker))
                && let Next::Exit(code) = enter(&flags)
            {
                return Err(ExitCode::from(code));
            }
        }
        Err(error) => note_of_worker(&words(), false, &error),
    }
    let parsed = command.try_get_matches().and_then(|matches| Cli::<A>::from_arg_matches(&matches));
    let cli = parsed.map_err(|error| {
        if !Step::is_told_by_another() {
            let _ = error.print();
        }
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(exit::USAGE))
    })?;
    match enter(&cli.cluster) {
        Next::Client => Ok(cli.user),
        Next::Exit(code) => Err(ExitCode::from(code)),
    }
}

/// The same command, with cw's flags as this program has them named.
fn with_prefixes(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_long() {
        // For as long as the process lives, as texts of a command do.
        Some(long) if arg.get_id().as_str().starts_with("cw::") => {
            let name: &'static str = flag::with_prefix(long).leak();
            arg.long(name)
        }
        _ => arg,
    })
}

/// The first flag that both the program and cw define.
fn taken_flag<A: Args>() -> Option<String> {
    let ours = with_prefixes(ClusterFlags::augment_args(Command::new("")));
    let ours: Vec<&str> = ours.get_arguments().filter_map(clap::Arg::get_long).collect();
    let user = A::augment_args(Command::new(""));
    user.get_arguments().filter_map(clap::Arg::get_long).find(|long| ours.contains(long)).map(str::to_owned)
}

/// The same command with nothing required.
fn relaxed(mut command: Command) -> Command {
    let groups: Vec<_> = command.get_groups().map(|group| group.get_id().clone()).collect();
    for group in groups {
        command = command.mut_group(group, |group| group.required(false));
    }
    command.mut_args(|arg| arg.required(false)).subcommand_required(false).arg_required_else_help(false)
}

/// Lets this process be what it was started as. Call it first thing in a `main` without `#[cw::main]`.
///
/// In an executor, a master or a worker it does not return. In a client it returns once the client can make
/// calls: with `--cluster` (or `CW_CLUSTER`) once it is connected. It reads cw's flags from the command line
/// and leaves all others to the program, which must accept those of cw it is given.
///
/// # Errors
/// None that return: a flag of cw's that cannot be read, or a cluster that cannot be reached, ends the process with one
/// line and its exit code.
pub fn init() -> crate::error::Result<()> {
    if nonce::is_executor() {
        leave(outside_of_runtimes(process::main));
    }
    if cli::is_called() {
        std::process::exit(i32::from(cli::called()));
    }
    let flags = match own_flags() {
        Ok(flags) => flags,
        Err(error) => {
            note_of_worker(&words(), false, &error);
            leave(Trouble::new(exit::USAGE, in_one_line(&error)).report())
        }
    };
    let serves =
        matches!(flags.role, Some(RoleFlag::Master | RoleFlag::Worker)) || Step::to_share(&flags).is_some();
    let next = if serves { outside_of_runtimes(move || enter(&flags)) } else { enter(&flags) };
    match next {
        Next::Client => {
            // Dropped with the thread, which for the main one is at the program's end.
            if std::thread::current().name() == Some("main") {
                AT_END.with(|_| ());
            }
            Ok(())
        }
        Next::Exit(code) => leave(code),
    }
}

/// Calls on a thread of its own where this one is within an async runtime, in which no other may be run.
fn outside_of_runtimes<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    if tokio::runtime::Handle::try_current().is_err() {
        return call();
    }
    let stack = std::thread::Builder::new().stack_size(MAIN_STACK_BYTES);
    let thread = stack.spawn(call).expect("a process that has just begun can start a thread");
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The stack a main thread has, and jobs may count on.
const MAIN_STACK_BYTES: usize = 8 << 20;

thread_local! {
    // How the program ends is not known here.
    static AT_END: CloseAtEnd = const { CloseAtEnd { is_well: false } };
}

/// Ends the client with the thread that called `init`. Where the system drops nothing at a program's end, or
/// the program is killed, the master notices by the silence.
struct CloseAtEnd {
    /// Whether the program has done what it was to do.
    is_well: bool,
}

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        session::close(self.is_well);
    }
}

/// Reads cw's flags among the words of a command line that is the program's own.
fn own_flags() -> Result<ClusterFlags, clap::Error> {
    let command =
        ClusterOnly::command().no_binary_name(true).disable_help_flag(true).disable_version_flag(true);
    let ours = own_words(&command, std::env::args().skip(1));
    ClusterFlags::from_arg_matches(&command.try_get_matches_from(ours)?)
}

/// The words that are flags of this command, with their values.
fn own_words(command: &Command, words: impl Iterator<Item = String>) -> Vec<String> {
    let (mut ours, mut words) = (Vec::new(), words.take_while(|word| word != "--").peekable());
    while let Some(word) = words.next() {
        let Some(long) = word.strip_prefix("--") else { continue };
        let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
        let Some(arg) = command.get_arguments().find(|arg| arg.get_long() == Some(name)) else { continue };
        let takes_next = value.is_none() && !arg.is_require_equals_set();
        ours.push(word);
        ours.extend(if takes_next { words.next_if(|next| !next.starts_with("--")) } else { None });
    }
    ours
}

/// The words after this program's name.
fn words() -> Vec<String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect()
}

/// Notes that a worker's flags are wrong, if this is to be one: whoever started it may not see what it says.
pub(crate) fn note_of_worker(words: &[String], is_worker: bool, error: &clap::Error) {
    let given = |name: &str, variable: &str| {
        let (flag, with_value) = (flag::flag(name), format!("{}=", flag::flag(name)));
        let value = words.iter().enumerate().find_map(|(at, word)| match word.strip_prefix(&with_value) {
            Some(value) => Some(value.to_owned()),
            None if *word == flag => words.get(at + 1).cloned(),
            None => None,
        });
        value.or_else(|| std::env::var(variable).ok()).filter(|value| !value.is_empty())
    };
    if error.use_stderr() && (is_worker || given("role", "CW_ROLE").as_deref() == Some("worker")) {
        let access = given("access", "CW_ACCESS").map(PathBuf::from);
        last_note(given("cluster", "CW_CLUSTER").as_deref(), access.as_deref(), &in_one_line(error));
    }
}

/// A parser's complaint without its advice, which is about a `--help` that the program may not have.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = paragraph.trim_start_matches("error: ").split_whitespace().collect();
    words.join(" ")
}

fn leave(code: u8) -> ! {
    std::process::exit(i32::from(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_words_on_missing_options_are_not_the_programs_description() {
        let command = Cli::<NoOpts>::command();
        assert_eq!((command.get_about(), command.get_long_about()), (None, None));
    }

    #[test]
    fn among_a_programs_own_words_ours_are_found_with_their_values() {
        let words =
            ["run", "--slots", "3", "--seed", "--cluster=lab", "--threads", "x", "--role", "--", "--slots"];
        let ours = own_words(&ClusterOnly::command(), words.iter().map(ToString::to_string));
        assert_eq!(ours, ["--slots", "3", "--cluster=lab", "--threads", "--role"]);
    }

    #[test]
    fn cw_takes_no_short_flag_from_a_program() {
        let command = ClusterOnly::command().disable_help_flag(true);
        for arg in command.get_arguments() {
            assert!(arg.get_id().as_str().starts_with("cw::") && arg.get_long().is_some(), "{arg}");
            assert!(arg.get_short_and_visible_aliases().is_none(), "{arg} has a short name");
        }
    }

    #[test]
    fn a_flag_of_both_is_found() {
        #[derive(Args)]
        struct Taken {
            #[arg(long)]
            slots: bool,
        }
        #[derive(Args)]
        struct Free {
            #[arg(short, long)]
            seed: bool,
        }
        assert_eq!(taken_flag::<Taken>().as_deref(), Some("slots"));
        assert_eq!(taken_flag::<Free>(), None);
        let (taken, free) = (Taken { slots: true }, Free { seed: true });
        assert!(taken.slots && free.seed);
    }
}
