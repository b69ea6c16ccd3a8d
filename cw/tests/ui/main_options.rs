//! Takes options that clap cannot read.

struct Opts {
    runs: u64,
}

#[cw::main]
async fn main(_opts: Opts) {}
