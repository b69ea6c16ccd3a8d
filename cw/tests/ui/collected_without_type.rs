//! Collects a map into nobody knows what.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let squares = cw::map(square, 0..3).collect().await?;
    println!("{}", squares.len());
    Ok(())
}
