//! Holds an `Rc` over an `await`, reads the inputs of a map out of one, and takes what holds a pointer.

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

#[derive(serde::Serialize, serde::Deserialize)]
struct Pinned {
    seed: u64,
    mark: std::marker::PhantomData<*const u8>,
}

#[cw::job]
fn pinned(x: Pinned) -> u64 {
    x.seed
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let factor = Rc::new(4u64);
    let _: Vec<u64> = cw::map(square, (0..4).map(move |i| i * *factor)).await?;
    Ok(())
}
