//! Augments a picture in every way there is, and draws the results as a grid:
//!
//! ```text
//! cargo run --release --example augmentation -- --out augmentation-output
//! ```
//!
//! Each row of `grid.png` is a transform, each column another draw of its random numbers; the first column is the picture as it
//! was. `grid.svg` shows it with the name of each row. It ends by checking what it claims: sizes, that two flips undo each other, that colours stay where strengths are 0, and
//! that one seed gives one grid and one batch, however many threads make it.

mod drawing;

use clap::Parser;
use isograd::{
    nn::data::{
        DataLoader, Dataset, Generator, SimpleDataset, Transform,
        vision::{
            CenterCrop, Image, Normalize, RandomBrightness, RandomColorJitter, RandomContrast, RandomCrop,
            RandomFlipLeftRight, RandomFlipTopBottom, RandomHue, RandomLighting, RandomResizedCrop, RandomRotation,
            RandomSaturation, Resize, ToTensor,
        },
    },
    prelude::*,
};
use rand::SeedableRng;
use std::path::PathBuf;

#[derive(Parser)]
#[command(about = "Draws a grid of augmented pictures")]
struct Options {
    /// Device that the batch goes to.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// The picture: PNG, JPEG, BMP or PNM.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/pictures/lighthouse.png"))]
    picture: PathBuf,
    /// Pictures in a row.
    #[arg(long, default_value_t = 8)]
    columns: usize,
    /// Seed of all random numbers.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Folder for the grid.
    #[arg(long, default_value = "augmentation-output")]
    out: PathBuf,
    /// Only draw the bundled picture, into this file.
    #[arg(long)]
    draw: Option<PathBuf>,
}

/// What each row shows. All but the resized crops keep the size.
type Augmentation = Box<dyn Transform<Image, Output = Image>>;

fn rows(width: usize, height: usize) -> Vec<(&'static str, Augmentation)> {
    let jitter = RandomColorJitter::new().brightness(0.5).contrast(0.5).saturation(0.5).hue(0.5);
    vec![
        ("RandomFlipLeftRight", Box::new(RandomFlipLeftRight::default())),
        ("RandomFlipTopBottom", Box::new(RandomFlipTopBottom::default())),
        ("RandomCrop, padding 24", Box::new(RandomCrop::new(width, height).padding(24, 0))),
        ("RandomRotation, 30 degrees", Box::new(RandomRotation::new(-30.0, 30.0))),
        ("RandomResizedCrop", Box::new(RandomResizedCrop::new(width, height).scale(0.1, 1.0).ratio(0.5, 2.0))),
        ("RandomBrightness 0.5", Box::new(RandomBrightness::new(0.5))),
        ("RandomContrast 0.7", Box::new(RandomContrast::new(0.7))),
        ("RandomSaturation 1", Box::new(RandomSaturation::new(1.0))),
        ("RandomHue 0.5", Box::new(RandomHue::new(0.5))),
        ("RandomColorJitter 0.5", Box::new(jitter)),
        ("RandomLighting 0.5", Box::new(RandomLighting::new(0.5))),
        ("CenterCrop of a third", Box::new(CenterCrop::new(width / 3, height / 3).then(Resize::new(width, height)))),
    ]
}

/// Between two pictures of the grid.
const GAP: usize = 4;

/// The grid in the file `grid.png` beside it, with a name before each row.
fn labelled(grid: &Image, image: &Image) -> String {
    const LETTERS: usize = 290;
    let (width, height, down) = (grid.width() + LETTERS, grid.height(), image.height() + GAP);
    let names: String = rows(image.width(), image.height())
        .iter()
        .enumerate()
        .map(|(row, (name, _))| format!("  <text x=\"12\" y=\"{}\">{name}</text>\n", row * down + down / 2 + 6))
        .collect();
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" font-family=\"sans-serif\" \
         font-size=\"18\">\n  <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{names}  <image x=\"{LETTERS}\" \
         width=\"{}\" height=\"{height}\" href=\"grid.png\"/>\n</svg>\n",
        grid.width()
    )
}

/// The grid for `seed`, a row for each transform.
fn grid(image: &Image, columns: usize, seed: u64) -> Result<Image> {
    let (width, height) = (image.width(), image.height());
    let rows = rows(width, height);
    let (across, down) = (width + GAP, height + GAP);
    let mut grid = Image::filled(columns * across + GAP, rows.len() * down + GAP, &[255; 3])?;
    let mut generator = Generator::seed_from_u64(seed);
    for (row, (_, transform)) in rows.iter().enumerate() {
        grid.paste(image, GAP, GAP + row * down)?;
        for column in 1..columns {
            let augmented = transform.apply(image.clone(), &mut generator)?;
            grid.paste(&augmented, GAP + column * across, GAP + row * down)?;
        }
    }
    Ok(grid)
}

/// One batch of augmented pictures as `[8, 3, 64, 64]`, made by so many threads.
fn batch(image: &Image, seed: u64, workers: usize, ctx: &Dyn) -> Result<Tensor> {
    let jitter = RandomColorJitter::new().brightness(0.4).contrast(0.4).saturation(0.4).hue(0.1);
    let augment = RandomResizedCrop::new(64, 64).then(RandomFlipLeftRight::default()).then(jitter);
    let numbers = ToTensor.then(Normalize::new(&[0.485, 0.456, 0.406], &[0.229, 0.224, 0.225])?);
    let dataset = SimpleDataset::new(vec![(image.clone(), 0i64); 8]).transform_first(augment.then(numbers));
    let loader = DataLoader::new(dataset, 8)?.shuffle(seed).workers(workers);
    let first = loader.epoch(ctx).next();
    let (images, _) = first.ok_or_else(|| Error::invalid("augmentation", "the epoch has no batch"))??;
    Ok(images)
}

fn check(claim: &str, holds: bool) -> Result<()> {
    println!("{} {claim}", if holds { "ok:" } else { "NOT SO:" });
    if holds { Ok(()) } else { Err(Error::invalid("augmentation", format!("it does not hold that {claim}"))) }
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let Some(path) = options.draw {
        return drawing::draw()?.save_png(path);
    }
    let ctx = device(&options.device)?;
    let image = Image::load(&options.picture, 3)?;
    let (width, height) = (image.width(), image.height());
    for (number, (name, _)) in rows(width, height).iter().enumerate() {
        println!("row {:2}: {name}", number + 1);
    }
    let columns = options.columns.max(2);
    let drawn = grid(&image, columns, options.seed)?;
    std::fs::create_dir_all(&options.out)?;
    let file = options.out.join("grid.png");
    drawn.save_png(&file)?;
    std::fs::write(options.out.join("grid.svg"), labelled(&drawn, &image))?;
    println!("the grid is in {}, with labels in grid.svg", file.display());

    let generator = &mut Generator::seed_from_u64(options.seed);
    check("the file has the grid that was drawn", Image::load(&file, 3)? == drawn)?;
    check("one seed gives one grid", grid(&image, columns, options.seed)? == drawn)?;
    check("another seed gives another", grid(&image, columns, options.seed + 1)? != drawn)?;
    for (name, transform) in rows(width, height) {
        let augmented = transform.apply(image.clone(), generator)?;
        check(&format!("{name} keeps the size"), (augmented.width(), augmented.height()) == (width, height))?;
    }
    let small = RandomResizedCrop::new(50, 40).apply(image.clone(), generator)?;
    check("a resized crop has the size asked for", (small.width(), small.height()) == (50, 40))?;
    let sideways = RandomFlipLeftRight::new(1.0);
    let upside_down = RandomFlipTopBottom::new(1.0);
    let flipped = sideways.apply(image.clone(), generator)?;
    check("a flip changes the picture", flipped != image)?;
    check("two flips undo each other", sideways.apply(flipped, generator)? == image)?;
    check("as do the others", upside_down.then(upside_down).apply(image.clone(), generator)? == image)?;
    check("no strength, no change", RandomColorJitter::new().apply(image.clone(), generator)? == image)?;
    let alone = batch(&image, options.seed, 0, &ctx)?.to_vec::<f32>()?;
    for workers in [1, 2, 4] {
        let made = batch(&image, options.seed, workers, &ctx)?;
        let same = made.shape()[..] == [8, 3, 64, 64] && made.to_vec::<f32>()? == alone;
        check(&format!("{workers} threads make the batch that none makes"), same)?;
    }
    Ok(())
}
