//! Drops what does nothing until it is awaited. Handles may be dropped.
#![deny(warnings)]

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
fn unused_parameter(n: u64, m: u64) -> u64 {
    n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    cw::spawn(square, 2);
    cw::map(square, 0..2);
    cw::map(square, 0..2).unordered();
    cw::map(square, 0..2).collect::<Vec<_>>();
    cw::wait_all();
    cw::spawn(square, 2).await;
    Ok(())
}
