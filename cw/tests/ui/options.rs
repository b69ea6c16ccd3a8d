//! Types options wrong.

#[cw::job(retry = 3)]
fn unknown() {}

#[cw::job(timeout = "10 parsecs")]
fn unit() {}

#[cw::job(timeout = 10)]
fn unquoted() {}

#[cw::job(timeout = "0s")]
fn zero() {}

#[cw::job(retries = -1, version = "3")]
fn numbers() {}

#[cw::job(retries = 1, retries = 2)]
fn twice() {}

#[cw::job(version)]
fn no_value() {}

#[cw::job(name = "")]
fn nameless() {}

#[cw::job(name = 7)]
fn numbered() {}

#[cw::job(handle = "Square")]
fn quoted() {}

#[cw::job("square")]
fn no_key() {}

#[cw::job(retries: 2)]
fn colon() {}

#[cw::job(speculate = "yes")]
fn eager() {}

#[cw::job(rerun = false)]
fn once() {}

#[cw::job(rerun = "sometimes")]
fn now_and_then() {}

#[cw::job(speculate = true, rerun = "never")]
fn both() {}

#[cw::main]
async fn main() {
    cw::spawn(unit, ()).await.unwrap();
}
