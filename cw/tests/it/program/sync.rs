//! A program whose `main` is not async, and has no options.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
fn main() -> cw::Result<()> {
    let handle = cw::spawn(square, 3);
    let squares = cw::map(square, 0..10).wait()?;
    cw::submit(square, 4, |task, result| println!("{task} gave {result:?}"));
    cw::wait_all().wait();
    println!("{} {squares:?}", handle.wait()?);
    Ok(())
}
