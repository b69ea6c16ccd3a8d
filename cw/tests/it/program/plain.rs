//! A program without `#[cw::main]`, whose `main` calls `cw::init` first.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

fn main() -> cw::Result<()> {
    cw::init()?;
    let squares = cw::map(square, 0..10).wait()?;
    println!("{squares:?}");
    Ok(())
}
