//! Spawns the function of a job that has a name of its own.

#[cw::job(handle = Square)]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    cw::spawn(square, 3).await?;
    Ok(())
}
