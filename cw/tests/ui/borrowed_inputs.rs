//! Maps over references where the job takes values, and over `&String` where it takes `&str`.

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
    let (numbers, names) = (vec![1u64, 2], vec![String::new()]);
    let _: Vec<u64> = cw::map(square, &numbers).await?;
    let _: Vec<u64> = cw::map(square, numbers.iter()).await?;
    let _: Vec<usize> = cw::map(measure, names.iter().map(|name| (name, &b"x"[..]))).await?;
    Ok(())
}
