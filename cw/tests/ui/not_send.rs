//! Holds an `Rc` over an `await`, and reads the inputs of a map out of one.

use std::rc::Rc;

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
async fn counts(x: u8) -> u8 {
    let shared = Rc::new(x);
    tokio::task::yield_now().await;
    *shared
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let factor = Rc::new(4u64);
    let _: Vec<u64> = cw::map(square, (0..4).map(move |i| i * *factor)).await?;
    Ok(())
}
