//! Makes jobs of functions that a worker cannot call.

#[cw::job]
unsafe fn hidden_danger() {}

#[cw::job]
const fn computed() -> u8 {
    1
}

#[cw::job]
extern "C" fn foreign() {}

#[cw::job]
fn endless() -> ! {
    loop {}
}

#[cw::job]
fn conditional(#[cfg(test)] x: u8) {}

fn main() {}
