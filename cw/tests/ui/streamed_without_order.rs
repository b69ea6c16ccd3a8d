//! Reads a map one by one without saying that any order will do.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let _first = cw::map(square, 0..3).next().await;
    for _result in cw::map(square, 0..3) {}
    Ok(())
}
