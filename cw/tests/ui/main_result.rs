//! Returns from `main` what no process can end with.

#[derive(clap::Args)]
struct Opts {}

#[cw::main]
async fn main(_opts: Opts) -> u64 {
    3
}
