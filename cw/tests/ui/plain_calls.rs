//! Has ordinary errors inside a job and in plain calls of one.

#[cw::job]
fn square(n: u64) -> u64 {
    n * n
}

#[cw::job]
fn adds(n: u64) -> u64 {
    n;
    "a"
}

fn main() {
    square("x");
    square(1, 2);
    let _: String = square(1);
}
