//! Gives a local variable the name of a job.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let square = cw::spawn(square, 3);
    square.await?;
    Ok(())
}
