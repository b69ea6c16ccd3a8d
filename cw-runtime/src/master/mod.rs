//! The master's shell: lets peers in, carries their messages to the machine and its answers back.

mod blobs;
mod greet;
mod observers;
pub(crate) mod run;

#[cfg(test)]
mod tests;
