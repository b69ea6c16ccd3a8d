//! Hands a job to an iterator.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

fn main() {
    let _: Vec<u64> = [1, 2].into_iter().map(square).collect();
}
