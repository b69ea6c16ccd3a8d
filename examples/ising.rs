//! Does a square lattice of spins lose its magnetisation where Onsager says it must?
//!
//! The two-dimensional Ising model: spins of +1 and -1 on a 128 x 128 torus, each liking its four neighbours to point
//! its own way. Below the critical temperature they agree, above it they do not. 400 tasks, 40 temperatures with ten
//! runs each, measure the magnetisation per spin |m|; the program averages the runs, compares with the exact answer
//! for the infinite lattice, draws both, and fails if they disagree.
//!
//! In one process tree, then on threads of one process, then on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example ising -- --plot ising.svg
//! cargo run --release --example ising -- --threads
//!
//! target/release/examples/ising --role master
//! target/release/examples/ising --role worker
//! target/release/examples/ising --cluster default
//! ```
//!
//! prints, each time,
//!
//! ```text
//!    T   measured     error   infinite lattice
//! 1.50    0.98645   0.00011   0.98650
//! 1.65    0.97537   0.00015   0.97524
//! 1.80    0.95698   0.00020   0.95686
//! 1.95    0.92587   0.00026   0.92616
//! 2.10    0.86852   0.00071   0.86875
//! 2.25    0.66463   0.00953   0.67185
//! 2.40    0.07898   0.00300   0.00000
//! 2.55    0.04031   0.00116   0.00000
//! 2.70    0.03009   0.00061   0.00000
//! 2.85    0.02445   0.00065   0.00000
//! 3.00    0.02112   0.00030   0.00000
//! 3.15    0.01893   0.00024   0.00000
//! 3.30    0.01738   0.00051   0.00000
//! 3.45    0.01576   0.00038   0.00000
//! 34 of 40 temperatures are far from the critical one, and agree
//! ```

use std::{error::Error, fs, path::PathBuf};

use fastrand::Rng;
use plotters::prelude::*;

/// Spins along an edge of the lattice.
const SIZE: usize = 128;
const SPINS: usize = SIZE * SIZE;
/// Sweeps of a run that are not measured, and those that are.
const WARM_UP: u32 = 25;
const MEASURED: u32 = 100;
const RUNS: usize = 10;
/// T_c = 2 / ln(1 + sqrt 2), in units of coupling over Boltzmann's constant as all temperatures here.
const CRITICAL: f64 = 2.269_185_314_213_022;
const POINT: RGBColor = RGBColor(0, 90, 181);
const TITLE: (&str, u32) = ("sans-serif", 26);
const LABEL: (&str, u32) = ("sans-serif", 17);

/// Magnetisation of the two-dimensional Ising model, measured and exact
#[derive(clap::Args)]
struct Opts {
    /// Draw the magnetisation over temperature into this file
    #[arg(long, value_name = "FILE.svg", default_value = "ising.svg")]
    plot: PathBuf,

    /// Keep results in this file, and go on where an earlier run stopped
    #[arg(long, value_name = "FILE.db")]
    store: Option<PathBuf>,
}

/// One temperature: the mean of |m| over its runs, and the standard error of that mean.
struct Point {
    temperature: f64,
    mean: f64,
    error: f64,
}

/// The mean of |m| over one run, which starts with all spins up.
///
/// Sums are of integers and the generator is seeded, so that every machine gives the same number.
#[cw::job]
fn simulate(temperature: f64, seed: u64) -> f64 {
    let mut rng = Rng::with_seed(seed);
    // Equal neighbours are bound with probability 1 - exp(-2 / T), here as a share of 2^32.
    let bond = (-(-2.0 / temperature).exp_m1() * 2f64.powi(32)) as u32;
    let mut spins = vec![1i8; SPINS];
    let mut total = 0;
    for sweep in 0..WARM_UP + MEASURED {
        flip_clusters(&mut spins, bond, &mut rng);
        if sweep >= WARM_UP {
            total += spins.iter().map(|&spin| i64::from(spin)).sum::<i64>().abs();
        }
    }
    total as f64 / f64::from(MEASURED) / SPINS as f64
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let temperatures = (0..40).map(|step| f64::from(150 + 5 * step) / 100.0);
    // A seed for each task, or points that should be independent would share their noise.
    let tasks = temperatures.clone().flat_map(|t| [t; RUNS]).zip(0u64..);
    let mut map = cw::map(simulate, tasks).progress("simulating");
    if let Some(store) = &opts.store {
        map = map.store(store);
    }
    let runs: Vec<f64> = map.await?;
    let points: Vec<Point> =
        temperatures.zip(runs.chunks(RUNS)).map(|(t, runs)| Point::new(t, runs)).collect();

    println!("   T   measured     error   infinite lattice");
    for Point { temperature, mean, error } in points.iter().step_by(3) {
        println!("{temperature:.2}   {mean:8.5}   {error:7.5}   {:7.5}", onsager(*temperature));
    }
    let mut picture = String::new();
    draw(&mut picture, &points).map_err(|error| cw::Error::other(error.to_string()))?;
    fs::write(&opts.plot, picture)
        .map_err(|error| cw::Error::other(format!("cannot write {}: {error}", opts.plot.display())))?;
    println!("{} of 40 temperatures are far from the critical one, and agree", check(&points)?);
    Ok(())
}

/// One sweep after Swendsen and Wang: binds equal neighbours at random, and turns each cluster of bound spins as a
/// whole, or not. Near the critical temperature, where single spins would take thousands of sweeps to forget where
/// they were, this takes a few.
fn flip_clusters(spins: &mut [i8], bond: u32, rng: &mut Rng) {
    let mut reached = vec![false; SPINS];
    let mut cluster = Vec::new();
    for start in 0..SPINS {
        if reached[start] {
            continue;
        }
        let (old, new) = (spins[start], if rng.bool() { 1 } else { -1 });
        reached[start] = true;
        cluster.push(start);
        // Of two spins the one reached first asks for their bond, so each bond is drawn once.
        while let Some(site) = cluster.pop() {
            spins[site] = new;
            for next in neighbours(site) {
                if !reached[next] && spins[next] == old && rng.u32(..) < bond {
                    reached[next] = true;
                    cluster.push(next);
                }
            }
        }
    }
}

fn neighbours(site: usize) -> [usize; 4] {
    let (row, column) = (site - site % SIZE, site % SIZE);
    [
        row + (column + 1) % SIZE,
        row + (column + SIZE - 1) % SIZE,
        (site + SIZE) % SPINS,
        (site + SPINS - SIZE) % SPINS,
    ]
}

impl Point {
    fn new(temperature: f64, runs: &[f64]) -> Self {
        let count = runs.len() as f64;
        let mean = runs.iter().sum::<f64>() / count;
        let squares: f64 = runs.iter().map(|run| (run - mean).powi(2)).sum();
        Self { temperature, mean, error: (squares / (count - 1.0) / count).sqrt() }
    }
}

/// |m| of the infinite lattice: L. Onsager 1949, proved by C. N. Yang, Phys. Rev. 85, 808 (1952).
fn onsager(temperature: f64) -> f64 {
    if temperature < CRITICAL { (1.0 - (2.0 / temperature).sinh().powi(-4)).powf(0.125) } else { 0.0 }
}

/// The root mean square of m above the critical temperature, where the mean of |m| must lie below: the susceptibility
/// of the infinite lattice near it (Barouch, McCoy and Wu 1973), spread over this one's spins.
fn noise(temperature: f64) -> f64 {
    (0.9625 * (1.0 - CRITICAL / temperature).powf(-1.75) / SPINS as f64).sqrt()
}

/// Compares what is more than 0.15 from the critical temperature with theory, and counts it. Closer, clusters are not
/// small beside the lattice, and it differs from an infinite one by more than its error.
fn check(points: &[Point]) -> cw::Result<usize> {
    let far = |point: &&Point| (point.temperature - CRITICAL).abs() > 0.15;
    for Point { temperature, mean, error } in points.iter().filter(far) {
        // The standard error is 0.001 at most: five of them.
        let agrees = match *temperature < CRITICAL {
            true => (mean - onsager(*temperature)).abs() < 0.005,
            false => *mean < noise(*temperature),
        };
        if !agrees {
            let line = format!("|m| = {mean:.5} +- {error:.5} at T = {temperature:.2} disagrees with theory");
            return Err(cw::Error::other(line));
        }
    }
    Ok(points.iter().filter(far).count())
}

/// The points over Onsager's curve, with bars of two standard errors either way.
fn draw(svg: &mut String, points: &[Point]) -> Result<(), Box<dyn Error>> {
    let picture = SVGBackend::with_string(svg, (960, 600)).into_drawing_area();
    picture.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&picture)
        .caption("Magnetisation of the two-dimensional Ising model", TITLE)
        .margin(20)
        .x_label_area_size(60)
        .y_label_area_size(80)
        .build_cartesian_2d(1.4..3.5, 0.0..1.05)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.6))
        .x_label_formatter(&|t| format!("{t:.1}"))
        .y_label_formatter(&|m| format!("{m:.1}"))
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("temperature T, in units of J / k_B")
        .y_desc("magnetisation per spin |m|")
        .draw()?;

    let curve = (1400..3500).map(|t| f64::from(t) / 1000.0).map(|t| (t, onsager(t)));
    chart
        .draw_series(LineSeries::new(curve, BLACK.stroke_width(2)))?
        .label("infinite lattice (Onsager)")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 30, y)], BLACK.stroke_width(2)));
    let bars = |p: &Point| [-2.0, 2.0].map(|errors| (p.temperature, p.mean + errors * p.error));
    chart.draw_series(points.iter().map(|p| PathElement::new(bars(p), POINT.stroke_width(2))))?;
    chart
        .draw_series(points.iter().map(|p| Circle::new((p.temperature, p.mean), 3, POINT.filled())))?
        .label(format!("{SIZE} x {SIZE} spins, {RUNS} runs, ± 2 standard errors"))
        .legend(|(x, y)| Circle::new((x + 15, y), 3, POINT.filled()));
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .margin(15)
        .legend_area_size(40)
        .label_font(LABEL)
        .background_style(WHITE)
        .border_style(BLACK.mix(0.3))
        .draw()?;
    picture.present()?;
    Ok(())
}
