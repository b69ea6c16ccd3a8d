//! What users read when they make a mistake: each program in `ui/` has to be refused, with the text beside it.
//!
//! The texts are partly the compiler's own, so they hold for one version of it (the workspace's `rust-version`, without
//! the sources of `std`) and are compared only where `CW_UI=1` is set. After a change write them anew with
//! `TRYBUILD=overwrite CW_UI=1 cargo test --test ui`, and read what they say.

#[test]
fn mistakes() {
    if std::env::var_os("CW_UI").is_none_or(|value| value != "1") {
        println!("skipped: the texts depend on the compiler's version; set CW_UI=1 to compare them");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
