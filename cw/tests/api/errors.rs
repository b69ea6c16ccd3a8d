//! Whatever a job may return as its error has a text; what is serde comes back as itself.

use std::{error::Error, fmt, io, path::Path};

use anyhow::Context;

use crate::Stats;

#[cw::job(retries = 2, timeout = "10m", version = 3)]
fn simulate(seed: u64, model: &str) -> anyhow::Result<Stats> {
    if model.is_empty() {
        Err(io::Error::other("disk")).context("no model")?
    }
    Ok(Stats { mean: seed as f64 })
}

#[derive(Debug, PartialEq, thiserror::Error, serde::Serialize, serde::Deserialize)]
enum FetchError {
    #[error("no host {0}")]
    NoHost(String),
}

#[cw::job]
async fn fetch(url: String) -> Result<Stats, FetchError> {
    tokio::task::yield_now().await;
    Err(FetchError::NoHost(url))
}

#[cw::job]
fn size(path: &Path) -> io::Result<u64> {
    Ok(std::fs::metadata(path)?.len())
}

#[cw::job]
fn plain_text(_x: u8) -> Result<(), String> {
    Err("plain text".into())
}

#[cw::job]
fn boxed_sync(_x: u8) -> Result<u8, Box<dyn Error + Send + Sync>> {
    Err("boxed sync".into())
}

#[cw::job]
fn boxed(_x: u8) -> Result<u8, Box<dyn Error>> {
    Err("boxed".into())
}

#[derive(Debug)]
struct OnlyDebug;

#[cw::job]
fn only_debug(_x: u8) -> Result<u8, OnlyDebug> {
    Err(OnlyDebug)
}

#[cw::job]
fn of_fmt(_x: u8) -> fmt::Result {
    Err(fmt::Error)
}

mod own {
    pub(crate) type Result<T = u8> = std::result::Result<T, std::num::ParseIntError>;

    #[cw::job]
    pub(crate) fn parse(text: &str) -> Result {
        text.parse()
    }
}

#[cw::job]
fn of_cw(_x: u8) -> cw::Result<u8> {
    Err(io::Error::other("cw io"))?
}

#[cw::job]
fn cannot_fail(x: u8) -> Result<u8, std::convert::Infallible> {
    Ok(x)
}

fn text<T: fmt::Debug>(result: Result<T, cw::TaskError>) -> String {
    format!("{:#}", result.expect_err("each of these jobs fails"))
}

#[tokio::test]
async fn every_error_has_its_text() -> cw::Result<()> {
    assert_eq!(cw::spawn(simulate, (42, "ising")).await?.mean, 42.0);
    assert_eq!(cw::spawn(cannot_fail, 1).await?, 1);
    let found = [
        (text(cw::spawn(simulate, (1, "")).await), "no model: disk"),
        (text(cw::spawn(fetch, "x.org".to_owned()).await), "no host x.org"),
        (text(cw::spawn(size, Path::new("/nope")).await), "No such file or directory (os error 2)"),
        (text(cw::spawn(plain_text, 1).await), "plain text"),
        (text(cw::spawn(boxed_sync, 1).await), "boxed sync"),
        (text(cw::spawn(boxed, 1).await), "boxed"),
        (text(cw::spawn(only_debug, 1).await), "OnlyDebug"),
        (text(cw::spawn(of_fmt, 1).await), &fmt::Error.to_string()),
        (text(cw::spawn(own::parse, "x").await), "invalid digit found in string"),
        (text(cw::spawn(of_cw, 1).await), "cw io"),
    ];
    for (found, end) in found {
        assert!(found.ends_with(&format!(": {end}")), "{end:?} at the end of {found:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_serde_comes_back_as_itself() {
    let error = cw::spawn(fetch, "x.org".to_owned()).await.unwrap_err();
    assert_eq!(error.downcast::<FetchError>(), Some(FetchError::NoHost("x.org".into())));
    assert_eq!(error.downcast::<String>(), None);
    let Some(FetchError::NoHost(host)) = error.downcast() else { panic!("{error}") };
    assert_eq!(host, "x.org");
    let error = cw::spawn(plain_text, 1).await.unwrap_err();
    assert_eq!(error.downcast::<String>().as_deref(), Some("plain text"));
}
