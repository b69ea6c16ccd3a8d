//! What stands below the flags in `--help`: how to run a cluster, files, signals, exit codes.

use crate::{flag::flag, program};

/// The text, with the program's name and its names of cw's flags.
pub(super) fn on_clusters() -> String {
    let name = program::file_name();
    let (role, cluster, access) = (flag("role"), flag("cluster"), flag("access"));
    let commands = [
        (format!("{name} {role} master"), "prints how to join"),
        (format!("{name} {role} worker"), "as many as you like, on any machine"),
        (format!("{name} {cluster} default"), "this program, on the cluster"),
    ];
    let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or(0);
    let commands: Vec<_> =
        commands.iter().map(|(command, what)| format!("  {command:width$}  {what}")).collect();
    format!(
        "\
A cluster, started in any order:
{}

Its keys and addresses are in ~/.cw/NAME/ ($CW_HOME moves that), made by its master and readable by you \
         alone. Where the home is not shared, copy worker.json or client.json and name it with {access}.

As several tasks of one Slurm step, `srun -n 64 {name}`, the program runs once, on the cores of all of them.

Master and worker log to stderr; CW_LOG is error, warn, info (the default), debug or trace.

Ctrl-C, TERM and HUP cancel what runs; a second one ends the program at once.

Exit codes of cw's own:
  2    wrong flags, or jobs that cannot work
  10   a named access file is missing; or one, or the cluster's folder, is not private or damaged
  11   the address cannot be listened on
  12   no master answered, or was there at all, in time; or a worker lost its master for too long
  13   the master is of another cluster, or refused this process; or another took this master's place
  14   no worker runs this build of the program
  15   the system refused something else
  130, 143, 129   ended by Ctrl-C, TERM or HUP",
        commands.join("\n")
    )
}
