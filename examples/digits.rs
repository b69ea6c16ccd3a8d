//! Which k, and which distance, read handwritten digits best?
//!
//! Each of 1,797 digits is held out in turn and named by the vote of its k nearest among the others. A task takes a
//! few dozen held-out digits through one distance and answers for all fifteen k at once, so that it is some
//! milliseconds of work and not a message a sum.
//!
//! In one process tree, then on threads of one process, then on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example digits -- --plot digits.svg
//! cargo run --release --example digits -- --threads
//!
//! target/release/examples/digits --role master
//! target/release/examples/digits --role worker
//! target/release/examples/digits --cluster default --plot digits.svg
//! ```
//!
//! prints, each time,
//!
//! ```text
//! k=1 distance=euclidean correct=1776/1797
//! k=2 distance=euclidean correct=1773/1797
//! k=3 distance=euclidean correct=1777/1797
//! ..
//! k=1 distance=manhattan correct=1770/1797
//! k=2 distance=manhattan correct=1762/1797
//! ..
//! k=15 distance=manhattan correct=1753/1797
//! ```

use std::{
    cmp::Reverse,
    error::Error,
    io::Read,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use flate2::read::GzDecoder;
use plotters::{
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};
use serde::{Deserialize, Serialize};

const K_MAX: usize = 15;
const TITLE: (&str, u32) = ("sans-serif", 26);
const LABEL: (&str, u32) = ("sans-serif", 17);

/// How many are named rightly, for each k from 1.
type Curve = (Distance, [u32; K_MAX]);

/// Unpacked at first use in each process: the table is part of the program, so no task has to carry it.
static SAMPLES: LazyLock<Vec<Sample>> =
    LazyLock::new(|| read_samples().expect("the embedded table is whole"));

struct Sample {
    pixels: [u8; 64],
    digit: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum Distance {
    Euclidean,
    Manhattan,
}

/// Which k reads handwritten digits best?
#[derive(clap::Args)]
struct Opts {
    /// Draw the curves into this SVG file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Held-out digits per task
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    chunk: u32,

    /// Keep results in this file, and go on where an earlier run stopped
    #[arg(long, value_name = "FILE.db")]
    store: Option<PathBuf>,
}

/// For each k from 1 to `K_MAX`, how many of the samples `first .. first + count` their neighbours name rightly.
#[cw::job]
fn classify(distance: Distance, first: u32, count: u32) -> Vec<u32> {
    let mut right = vec![0; K_MAX];
    for held_out in first as usize..(first + count) as usize {
        let neighbours = nearest(distance, held_out);
        let mut votes = [0u32; 10];
        for (k, &(_, neighbour)) in neighbours.iter().enumerate() {
            votes[SAMPLES[neighbour].digit] += 1;
            right[k] += u32::from(winner(&votes) == SAMPLES[held_out].digit);
        }
    }
    right
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    let settings = [Distance::Euclidean, Distance::Manhattan];
    let samples = SAMPLES.len() as u32;
    let tasks: Vec<_> = settings
        .into_iter()
        .flat_map(|distance| chunks(samples, opts.chunk).map(move |(at, n)| (distance, at, n)))
        .collect();

    // `map` keeps the order of its input, so each answer finds its task again.
    let mut map = cw::map(classify, tasks.clone());
    if let Some(store) = &opts.store {
        map = map.store(store);
    }
    let answers: Vec<Vec<u32>> = map.await?;
    let curves = settings.map(|distance| {
        let mut right = [0; K_MAX];
        for ((of, ..), answer) in tasks.iter().zip(&answers) {
            if *of == distance {
                right.iter_mut().zip(answer).for_each(|(sum, n)| *sum += n);
            }
        }
        (distance, right)
    });

    for (distance, right) in &curves {
        for (k, right) in (1..).zip(right) {
            println!("k={k} distance={} correct={right}/{samples}", distance.name());
        }
    }
    if let Some(file) = &opts.plot {
        draw(file, &curves, samples).map_err(|error| cw::Error::other(error.to_string()))?;
    }
    Ok(())
}

fn chunks(samples: u32, chunk: u32) -> impl Iterator<Item = (u32, u32)> {
    let starts = (0..samples).step_by(chunk as usize);
    starts.map(move |first| (first, chunk.min(samples - first)))
}

/// The `K_MAX` nearest others, nearest first; of two equally near the earlier sample comes first.
fn nearest(distance: Distance, held_out: usize) -> Vec<(u32, usize)> {
    let from = &SAMPLES[held_out].pixels;
    let mut others: Vec<_> = SAMPLES
        .iter()
        .enumerate()
        .filter(|&(index, _)| index != held_out)
        .map(|(index, sample)| (distance.between(from, &sample.pixels), index))
        .collect();
    others.select_nth_unstable(K_MAX);
    others.truncate(K_MAX);
    others.sort_unstable();
    others
}

/// The digit with most votes; of two with equally many the smaller.
fn winner(votes: &[u32; 10]) -> usize {
    let mut best = 0;
    for digit in 1..votes.len() {
        if votes[digit] > votes[best] {
            best = digit;
        }
    }
    best
}

impl Distance {
    fn name(self) -> &'static str {
        match self {
            Self::Euclidean => "euclidean",
            Self::Manhattan => "manhattan",
        }
    }

    fn colour(self) -> RGBColor {
        match self {
            Self::Euclidean => RGBColor(0, 90, 181),
            Self::Manhattan => RGBColor(220, 80, 30),
        }
    }

    /// The Euclidean distance stays squared: the order is the same, and integers compare exactly on every machine.
    fn between(self, a: &[u8; 64], b: &[u8; 64]) -> u32 {
        let gaps = a.iter().zip(b).map(|(&a, &b)| u32::from(a.abs_diff(b)));
        match self {
            Self::Euclidean => gaps.map(|gap| gap * gap).sum(),
            Self::Manhattan => gaps.sum(),
        }
    }
}

fn read_samples() -> Result<Vec<Sample>, Box<dyn Error>> {
    let mut csv = String::new();
    GzDecoder::new(&include_bytes!("data/digits.csv.gz")[..]).read_to_string(&mut csv)?;
    csv.lines().map(read_sample).collect()
}

fn read_sample(line: &str) -> Result<Sample, Box<dyn Error>> {
    let values = line.split(',').map(str::parse).collect::<Result<Vec<u8>, _>>()?;
    let (pixels, digit) = values.split_first_chunk().ok_or("a line is too short")?;
    match digit {
        [digit @ 0..=9] => Ok(Sample { pixels: *pixels, digit: usize::from(*digit) }),
        _ => Err("a line does not end in one digit".into()),
    }
}

/// Both curves over k, in per cent of all samples, the best k of each named.
fn draw(file: &Path, curves: &[Curve], samples: u32) -> Result<(), Box<dyn Error>> {
    let percent = |right: u32| 100.0 * f64::from(right) / f64::from(samples);
    let all = || curves.iter().flat_map(|(_, right)| right);
    // Out to the next fifth of a per cent, so that the ticks are round numbers.
    let low = (5.0 * percent(*all().min().unwrap_or(&0))).floor() / 5.0;
    let high = (5.0 * percent(*all().max().unwrap_or(&samples))).ceil() / 5.0;

    let picture = SVGBackend::new(file, (960, 600)).into_drawing_area();
    picture.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&picture)
        .caption("Handwritten digits named by their k nearest neighbours", TITLE)
        .margin(20)
        .x_label_area_size(60)
        .y_label_area_size(80)
        .build_cartesian_2d(0.5..K_MAX as f64 + 0.5, low..high)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .axis_style(BLACK.mix(0.6))
        .x_labels(K_MAX)
        .x_label_formatter(&|k| format!("{k:.0}"))
        .y_labels(10)
        .y_label_formatter(&|share| format!("{share:.1} %"))
        .label_style(LABEL)
        .axis_desc_style(LABEL)
        .x_desc("k, the neighbours that vote")
        .y_desc("named rightly, of 1,797 held out in turn")
        .draw()?;

    for (distance, right) in curves {
        let colour = distance.colour();
        let points = || (1..).zip(right).map(|(k, &right)| (f64::from(k), percent(right)));
        chart
            .draw_series(LineSeries::new(points(), colour.stroke_width(3)))?
            .label(distance.name())
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 30, y)], colour.stroke_width(3)));
        chart.draw_series(points().map(|point| Circle::new(point, 5, colour.filled())))?;

        let (k, best) = (1u32..)
            .zip(right)
            .max_by_key(|&(k, right)| (right, Reverse(k)))
            .expect("there are K_MAX points");
        let text = format!("k = {k}: {best} of {samples}");
        let above = LABEL.into_text_style(&picture).color(&colour).pos(Pos::new(HPos::Left, VPos::Bottom));
        chart.draw_series([EmptyElement::at((f64::from(k), percent(*best)))
            + Circle::new((0, 0), 9, colour.stroke_width(2))
            + Text::new(text, (12, -8), above)])?;
    }
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
