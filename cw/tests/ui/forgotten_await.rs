//! Uses results before they are there.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let _: u64 = cw::spawn(square, 3)?;
    let _: Vec<u64> = cw::map(square, 0..3)?;
    let _nine: u64 = cw::spawn(square, 3);
    Ok(())
}
