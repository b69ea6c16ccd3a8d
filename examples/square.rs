//! The example of the Python Cluster-Workers, as it reads here: hand in numbers, get each one's square.
//!
//! First with handles, one for each call, which are awaited in the order we like. Then with callbacks: each `submit`
//! returns at once with the task's token, and the callback gets the same token and the result. Callbacks run one
//! after another, in the order in which tasks end, so those lines may come in another order.
//!
//! By itself, on threads of one process, and on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example square
//! cargo run --release --example square -- --threads
//!
//! target/release/examples/square --role master
//! target/release/examples/square --role worker
//! target/release/examples/square --cluster default
//! ```
//!
//! prints
//!
//! ```text
//! task-1: the square of 0 is 0
//! task-2: the square of 1 is 1
//! task-3: the square of 2 is 4
//! task-4: the square of 3 is 9
//! task-5: the square of 4 is 16
//! task-6 completed: Ok(0)
//! task-7 completed: Ok(1)
//! task-8 completed: Ok(4)
//! task-9 completed: Ok(9)
//! task-10 completed: Ok(16)
//! ```

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

/// Squares numbers on whatever cores there are
#[derive(clap::Args)]
struct Opts {
    /// How many numbers to square
    #[arg(long, default_value_t = 5)]
    count: u64,
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    // All tasks are on their way before the first is awaited.
    let handles: Vec<_> = (0..opts.count).map(|n| cw::spawn(square, n)).collect();
    for (n, handle) in (0..opts.count).zip(handles) {
        let task = handle.id();
        let squared = handle.await?;
        assert_eq!(squared, square(n), "a plain call gives the same, here and now");
        println!("{task}: the square of {n} is {squared}");
    }

    for n in 0..opts.count {
        cw::submit(square, n, |task, result| println!("{task} completed: {result:?}"));
    }
    cw::wait_all().await;
    Ok(())
}
