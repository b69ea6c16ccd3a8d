//! The example of the Python Cluster-Workers, as it reads here: submit numbers, print each square as it comes back.
//!
//! Each `submit` returns at once with the task's token; the callback gets the same token and the result. Callbacks
//! run one after another, in the order in which tasks end, so the lines may come in another order.
//!
//! ```text
//! cargo run --release --example square
//!
//! target/release/examples/square --role master              in three terminals: a cluster and its client
//! target/release/examples/square --role worker
//! target/release/examples/square --cluster default
//! ```
//!
//! prints
//!
//! ```text
//! task-1 completed: Ok(0)
//! task-2 completed: Ok(1)
//! task-3 completed: Ok(4)
//! task-4 completed: Ok(9)
//! task-5 completed: Ok(16)
//! ```

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[derive(clap::Args)]
struct Opts {
    /// How many numbers to square
    #[arg(long, default_value_t = 5)]
    count: u64,
}

#[cw::main]
async fn main(opts: Opts) {
    for n in 0..opts.count {
        cw::submit(square, n, |task, result| println!("{task} completed: {result:?}"));
    }
    cw::wait_all().await;
}
