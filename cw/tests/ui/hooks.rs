//! Has hooks run that take, return or are something else.

#[cw::on_start]
async fn later() {}

#[cw::on_start]
fn with_arguments(_n: u64) {}

#[cw::on_start]
unsafe fn generic<T>()
where
    T: Copy,
{
}

#[cw::on_start]
fn with_value() -> u64 {
    3
}

#[cw::on_start(order = "first")]
fn wrong_order() {}

#[cw::on_start(before = 3)]
fn wrong_option() {}

#[cw::on_start]
static HOOK: u8 = 0;

fn main() {}
