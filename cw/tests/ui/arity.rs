//! Passes too few arguments, or not as a tuple, and a callback with one parameter instead of two.

#[cw::job]
fn measure(name: &str, data: &[u8]) -> usize {
    name.len() + data.len()
}

#[cw::main]
async fn main() -> cw::Result<()> {
    cw::spawn(measure, ("a",)).await?;
    cw::spawn(measure, "a").await?;
    cw::spawn(measure, "a", b"b").await?;
    cw::submit(measure, ("a", &b"b"[..]), |result| println!("{result:?}"));
    Ok(())
}
