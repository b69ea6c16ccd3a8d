//! The network: QUIC endpoints and the keys both ends know each other by. Nothing outside names quinn's settings.

pub(crate) mod connect;
pub mod endpoint;
pub mod identity;
pub(crate) mod link;
pub mod refusal;
pub mod socket;
pub mod tls;
pub(crate) mod unix;

#[cfg(test)]
mod tests;
