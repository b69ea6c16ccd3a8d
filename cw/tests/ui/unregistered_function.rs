//! Spawns a function without `#[cw::job]`.

fn plain(x: u64) -> u64 {
    x
}

#[cw::main]
async fn main() -> cw::Result<()> {
    cw::spawn(plain, 3).await?;
    let _: Vec<u64> = cw::map(plain, 0..3).await?;
    cw::submit(plain, 3, |_, _| ());
    cw::options().retries(2).spawn(plain, 3).await?;
    cw::TaskSet::new().spawn(plain, 3);
    Ok(())
}
