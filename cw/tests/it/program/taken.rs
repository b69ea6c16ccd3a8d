//! A program that uses a name of cw's flags for itself, which cannot be told apart.

#[derive(clap::Args)]
struct Opts {
    #[arg(long)]
    slots: u64,
}

#[cw::main]
fn main(opts: Opts) {
    println!("{}", opts.slots);
}
