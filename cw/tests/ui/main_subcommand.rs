//! Takes a subcommand where options go.

#[derive(clap::Subcommand)]
enum Command {
    Run,
}

#[cw::main]
fn main(_command: Command) {}
