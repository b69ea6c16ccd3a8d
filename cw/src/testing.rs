//! For the tests of programs with jobs.
//!
//! Tests call jobs as programs do. Without `#[cw::main]` and [`init`](crate::init), as in a test, jobs run in threads
//! of the test's process, with the same encoding of arguments and results; see `--threads` for what threads lack.

/// Says of every job that cannot run what is wrong with its types: a test of one line.
///
/// ```
/// #[cw::job]
/// fn mean(values: &[f64]) -> f64 {
///     values.iter().sum::<f64>() / values.len() as f64
/// }
///
/// // #[test]
/// fn jobs() {
///     cw::testing::check_jobs().unwrap();
/// }
/// # jobs();
/// ```
///
/// What it finds:
///
/// ```standalone_crate
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Config {
///     #[serde(skip_serializing_if = "Option::is_none")]
///     name: Option<String>,
/// }
///
/// #[cw::job(name = "simulate")]
/// fn simulate(cfg: Config) {}
///
/// let problems = cw::testing::check_jobs().unwrap_err().to_string();
/// assert!(problems.starts_with("job `simulate` cannot run: argument `cfg` of type "));
/// assert!(problems.contains("field `name` of Config is left out by `skip_serializing_if`"));
/// ```
pub use cw_runtime::testing::check_jobs;

/// Says how many jobs run at once in a test.
///
/// ```
/// #[cw::job]
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// // #[test]
/// fn squares() {
///     cw::testing::threads(2);
///     assert_eq!(cw::map(square, 0..4).wait().unwrap(), [0, 1, 4, 9]);
/// }
/// # squares();
/// ```
pub use cw_runtime::testing::threads;
