//! Passes arguments of almost the right type.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
fn measure(name: &str, data: &[u8]) -> usize {
    name.len() + data.len()
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let (name, data) = (String::new(), vec![1u8]);
    cw::spawn(measure, (&name, &data)).await?;
    cw::spawn(square, 3u32).await?;
    Ok(())
}
