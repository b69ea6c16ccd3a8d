//! A program without `#[cw::main]`, whose `main` calls `cw::init` first, within a runtime of its own.

#[cw::job]
async fn square(n: u64) -> u64 {
    tokio::task::yield_now().await;
    n * n
}

#[tokio::main]
async fn main() -> cw::Result<()> {
    cw::init()?;
    let squares = cw::map(square, 0..10).await?;
    println!("{squares:?}");
    Ok(())
}
