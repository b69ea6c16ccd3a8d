//! Everything a user may write that should compile, infer and run, beside what `it` runs in real processes.
//!
//! Without `#[cw::main]` or `cw::init` the tests' jobs run in threads of the tests' own process.
#![forbid(unsafe_code)]
#![deny(warnings, missing_docs, unreachable_pub)]

mod arguments;
mod definitions;
mod errors;
mod programs;
mod streams;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Stats {
    mean: f64,
}

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
async fn weigh(name: &str, data: &[u8], stats: &Stats) -> usize {
    tokio::task::yield_now().await;
    name.len() + data.len() + stats.mean as usize
}
