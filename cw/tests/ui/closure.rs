//! Spawns a closure.

#[cw::main]
async fn main() -> cw::Result<()> {
    let k = 2;
    cw::spawn(|x: u64| x * k, 3).await?;
    Ok(())
}
