//! A program with jobs whose types cannot cross the wire, beside one that is well.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Config {
    seed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

#[cw::job]
fn simulate(runs: u32, cfg: Config) -> u64 {
    u64::from(runs) + cfg.seed + u64::from(cfg.name.is_some())
}

#[cw::job]
fn parse(text: String) -> serde_json::Value {
    text.into()
}

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

/// With `UNFIT_BARE` set it does without `init`, so the first call finds out.
fn main() -> cw::Result<()> {
    if std::env::var_os("UNFIT_BARE").is_none() {
        cw::init()?;
    }
    println!("main runs");
    for result in [cw::spawn(square, 3).wait(), cw::spawn(square, 4).wait()] {
        println!("{:?}", result.expect_err("the program is unfit").kind());
    }
    Ok(())
}
