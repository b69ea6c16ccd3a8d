//! The attributes of `cw`: `#[cw::job]` registers a function, `#[cw::main]` starts a program, `#[cw::on_start]` and
//! `#[cw::cache]` prepare what tasks share.
//!
//! They are documented in the facade, where their examples compile. The generated code names only `::cw::Job`,
//! `::cw::__private`, `::core` and `::std`, so it compiles wherever `cw` is a dependency, whatever else is in scope.

mod args;
mod cache;
mod errors;
mod expand;
mod hook;
mod item;
mod main_fn;
mod size;
mod text;

use proc_macro::TokenStream;

/// Registers a function as a job: `#[cw::job(name, handle, version, retries, timeout, max_bytes)]`.
#[proc_macro_attribute]
pub fn job(options: TokenStream, item: TokenStream) -> TokenStream {
    expand::job(options.into(), item.into()).into()
}

/// Runs a function in each executor before its first task: `#[cw::on_start(order = 10)]`.
#[proc_macro_attribute]
pub fn on_start(options: TokenStream, item: TokenStream) -> TokenStream {
    hook::on_start(options.into(), item.into()).into()
}

/// Keeps what a function computes, for each set of arguments: `#[cw::cache(entries = 64)]`.
#[proc_macro_attribute]
pub fn cache(options: TokenStream, item: TokenStream) -> TokenStream {
    cache::cache(options.into(), item.into()).into()
}

/// Lets `fn main` serve every role of the program: `#[cw::main(prefix = "cw-")]`.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    main_fn::main(options.into(), item.into()).into()
}
