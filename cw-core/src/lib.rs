//! The decisions of Cluster-Workers, without the world.
//!
//! Three state machines ([`master::Master`], [`worker::Worker`], [`client::Client`]) take events and
//! the time, and give back actions. What they say to each other are the messages of [`wire`]. Nothing
//! here knows a clock, a socket, a file, a thread or a source of randomness: a shell brings the time
//! and carries the bytes, and a test brings a clock that jumps.

/// Whether a deliberate fault of the simulator is on.
#[cfg(any(test, feature = "sim"))]
macro_rules! planted {
    ($bug:ident) => {
        crate::sim::bugs::is_planted(crate::sim::bugs::Bug::$bug)
    };
}

/// In a build for use there are none.
#[cfg(not(any(test, feature = "sim")))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod claims;
pub mod client;
pub mod ids;
pub mod keeper;
pub mod master;
pub mod resume;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod wire;
pub mod worker;

mod actions;
mod gather;
mod idmap;
mod learn;
mod payload;
mod taskmap;
mod time;

pub use gather::gathered;
pub use idmap::IdHash;
pub use payload::Payload;
pub use taskmap::TaskMap;
pub use time::Time;

#[cfg(test)]
mod tests;
