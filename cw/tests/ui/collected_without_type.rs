//! Collects a map into nobody knows what, and streams it without saying in which order.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let squares = cw::map(square, 0..3).collect().await?;
    let first = cw::map(square, 0..3).next().await;
    for square in cw::map(square, 0..3) {}
    Ok(())
}
