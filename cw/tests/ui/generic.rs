//! Wants a job for every type.

#[cw::job]
fn of_type<T: Clone>(x: T) -> T {
    x
}

#[cw::job]
fn of_length<const N: usize>(_x: u8) -> usize {
    N
}

#[cw::job]
fn bounded(x: u8) -> u8
where
    u8: Copy,
{
    x
}

#[cw::job]
fn anything(x: impl Into<u64>) -> u64 {
    x.into()
}

#[cw::job]
fn boxed(_x: &dyn std::fmt::Debug) {}

#[cw::job]
fn any_list(x: Vec<Box<dyn std::fmt::Debug>>) -> usize {
    x.len()
}

#[cw::job]
fn some(x: u8) -> impl Copy {
    x
}

#[cw::main]
async fn main() {
    cw::spawn(of_type, 3).await.unwrap();
    of_type(3);
}
