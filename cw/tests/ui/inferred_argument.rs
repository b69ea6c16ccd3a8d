//! Leaves an argument's type to be inferred.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() -> cw::Result<()> {
    let nine = cw::spawn(square, "3".parse().unwrap()).await?;
    println!("{nine}");
    Ok(())
}
