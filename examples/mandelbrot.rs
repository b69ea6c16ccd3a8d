//! The Mandelbrot set, painted tile by tile as the tiles come back.
//!
//! Each task paints a tile of 64 x 64 pixels, four samples a pixel, and counts the samples that never escape. Tiles
//! within the set take a hundred times as long as those far from it, so they come back in any order; each goes into
//! the picture at once. Their counts add up to the area of the set, which is known (1.5065918849, T. Förstemann
//! 2012), and the program fails if it finds another.
//!
//! In one process tree, then on threads of one process, then on a cluster (three terminals):
//!
//! ```text
//! cargo run --release --example mandelbrot -- --out mandelbrot.png
//! cargo run --release --example mandelbrot -- --threads --width 640 --height 400
//!
//! target/release/examples/mandelbrot --role master
//! target/release/examples/mandelbrot --role worker
//! target/release/examples/mandelbrot --cluster default
//! ```
//!
//! prints (the first, and in the same way the others)
//!
//! ```text
//! 400 tiles, 1600 x 1000 pixels
//! area of the set: 1.5104, known: 1.5066
//! ```

use std::{
    fmt::Display,
    fs::{self, File},
    io::BufWriter,
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

/// Pixels along an edge of a tile.
const TILE: u32 = 64;
/// What has not escaped by then is taken to be in the set.
const STEPS: u32 = 1000;
/// Area of the set.
const AREA: f64 = 1.506_592;
/// A thousand steps take 0.004 too much for inside, and the coarsest picture adds 0.01 of noise.
const AREA_TOLERANCE: f64 = 0.02;

/// Paints the Mandelbrot set into a PNG, tile by tile
#[derive(clap::Args)]
struct Opts {
    /// Pixels from left to right
    #[arg(long, default_value_t = 1600, value_parser = clap::value_parser!(u32).range(64..=16_384))]
    width: u32,

    /// Pixels from top to bottom
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(64..=16_384))]
    height: u32,

    /// The picture
    #[arg(long, value_name = "FILE.png", default_value = "mandelbrot.png")]
    out: PathBuf,
}

/// The picture's size in pixels. All of the set is in view, its middle in the middle.
#[derive(Clone, Copy, Serialize, Deserialize)]
struct View {
    width: u32,
    height: u32,
}

#[derive(Serialize, Deserialize)]
struct Tile {
    /// Red, green and blue of each pixel, row by row; tiles at the right and the lower edge may be smaller.
    pixels: Vec<u8>,
    /// Samples in the set.
    inside: u32,
}

/// Paints the tile whose upper left pixel is (`left`, `top`).
#[cw::job]
fn paint(view: View, left: u32, top: u32) -> Tile {
    let mut tile = Tile { pixels: Vec::new(), inside: 0 };
    for y in top..view.height.min(top + TILE) {
        for x in left..view.width.min(left + TILE) {
            let samples = view.samples(x, y).map(|(re, im)| escape(re, im));
            tile.inside += samples.iter().filter(|steps| steps.is_none()).count() as u32;
            let colours = samples.map(colour);
            let mean = |channel| colours.iter().map(|colour| colour[channel]).sum::<f64>() / 4.0;
            tile.pixels.extend([0, 1, 2].map(|channel| (255.0 * mean(channel)).round() as u8));
        }
    }
    tile
}

#[cw::main]
async fn main(opts: Opts) -> cw::Result<()> {
    // Opened before the work and renamed after it: a wrong path costs no time, and the name never stands for half a
    // picture.
    let unfinished = opts.out.with_extension("png.part");
    let unwritable =
        |error: &dyn Display| cw::Error::other(format!("cannot write {}: {error}", opts.out.display()));
    let file = File::create(&unfinished).map_err(|error| unwritable(&error))?;

    let view = View { width: opts.width, height: opts.height };
    let corners: Vec<_> = view.corners().collect();
    let mut image = vec![0; 3 * view.width as usize * view.height as usize];
    let mut inside = 0;
    let inputs = corners.iter().map(|&(left, top)| (view, left, top));
    let mut tiles = cw::map(paint, inputs).progress("painting").unordered();
    while let Some((index, tile)) = tiles.next().await {
        let Tile { pixels, inside: here } = tile?;
        inside += u64::from(here);
        view.place(&mut image, corners[index], &pixels);
    }

    write_png(file, view, &image).map_err(|error| unwritable(&error))?;
    fs::rename(&unfinished, &opts.out).map_err(|error| unwritable(&error))?;

    let area = inside as f64 * (view.pixel() / 2.0).powi(2);
    println!("{} tiles, {} x {} pixels", corners.len(), view.width, view.height);
    println!("area of the set: {area:.4}, known: {AREA:.4}");
    if (area - AREA).abs() > AREA_TOLERANCE {
        return Err(cw::Error::other("the area is wrong, and so must be the picture"));
    }
    Ok(())
}

fn write_png(file: File, view: View, image: &[u8]) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(BufWriter::new(file), view.width, view.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image)?;
    // Here and not when dropped, where a full disk would go unseen.
    writer.finish()
}

impl View {
    /// The side of a pixel in the plane. The set reaches from -2 to 0.48 and from -1.13 to 1.13.
    fn pixel(self) -> f64 {
        (2.7 / f64::from(self.width)).max(2.5 / f64::from(self.height))
    }

    /// Four points of a pixel, the middles of its quarters.
    fn samples(self, x: u32, y: u32) -> [(f64, f64); 4] {
        let re = |shift| (f64::from(x) + shift - f64::from(self.width) / 2.0) * self.pixel() - 0.76;
        let im = |shift| (f64::from(self.height) / 2.0 - f64::from(y) - shift) * self.pixel();
        [(0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75)].map(|(x, y)| (re(x), im(y)))
    }

    /// The upper left pixels of all tiles.
    fn corners(self) -> impl Iterator<Item = (u32, u32)> {
        let row = move |top| (0..self.width).step_by(TILE as usize).map(move |left| (left, top));
        (0..self.height).step_by(TILE as usize).flat_map(row)
    }

    /// Copies a tile's rows to their place.
    fn place(self, image: &mut [u8], (left, top): (u32, u32), pixels: &[u8]) {
        let columns = TILE.min(self.width - left);
        for (y, row) in (top as usize..).zip(pixels.chunks(3 * columns as usize)) {
            let start = 3 * (y * self.width as usize + left as usize);
            image[start..start + row.len()].copy_from_slice(row);
        }
    }
}

/// After how many steps z -> z^2 + c leaves for infinity, as a smooth function of c; none in the set.
fn escape(re: f64, im: f64) -> Option<f64> {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..STEPS {
        (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        let square: f64 = x * x + y * y;
        // Far out each step doubles the logarithm, which tells how far between two steps this is.
        if square > 1e4 {
            return Some(f64::from(step) + 1.0 - (square.log2() / 2.0).log2());
        }
    }
    None
}

/// Black in the set; around it blue, white and gold by turns, ever slower as the steps grow many.
fn colour(steps: Option<f64>) -> [f64; 3] {
    let Some(steps) = steps else { return [0.0; 3] };
    let turn = 2.2 * (steps + 3.0).max(0.0).ln();
    [5.3, 4.7, 4.1].map(|phase| 0.5 + 0.5 * (turn - phase).cos())
}
