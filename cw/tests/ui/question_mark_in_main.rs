//! Asks `?` of a `main` that returns nothing.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::main]
async fn main() {
    cw::spawn(square, 1).await?;
}
