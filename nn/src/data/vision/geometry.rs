//! Transforms that move pixels: resizing, cropping, turning, flipping.

use super::Image;
use crate::data::{Generator, Transform};
use isograd_core::{Error, Result, host};
use rand::RngExt;

/// How pixels between pixels are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interpolation {
    /// The nearest pixel.
    Nearest,
    /// The weighted mean of the four around; pixels count from their centres, and beyond the border the border goes on.
    #[default]
    Bilinear,
}

impl Interpolation {
    /// `image` made `width` by `height`.
    fn resize(self, image: &Image, width: usize, height: usize) -> Result<Image> {
        match self {
            Interpolation::Nearest => {
                let nearest =
                    |from: usize, to: usize, i: usize| proportion(2 * i + 1, from, to.saturating_mul(2)).min(from - 1);
                let x = |i| nearest(image.width(), width, i);
                image.drawn("Resize", width, height, |i, j| image.pixel(x(i), nearest(image.height(), height, j)))
            }
            Interpolation::Bilinear => {
                let mut resized = image.drawn("Resize", width, height, |_, _| image.pixel(0, 0))?;
                let (columns, rows) = (taps(image.width(), width)?, taps(image.height(), height)?);
                let mut data = resized.data_mut().iter_mut();
                for &(top, bottom, down) in &rows {
                    for &(left, right, across) in &columns {
                        let corner = |x, y| image.pixel(x, y);
                        let (a, b, c, d) =
                            (corner(left, top), corner(right, top), corner(left, bottom), corner(right, bottom));
                        for channel in 0..image.channels() {
                            let mix = |p: &[u8], q: &[u8]| {
                                let (p, q) = (f32::from(p[channel]), f32::from(q[channel]));
                                p + (q - p) * across
                            };
                            let (upper, lower) = (mix(a, b), mix(c, d));
                            let place = data.next().expect("as many numbers as pixels have");
                            *place = (upper + (lower - upper) * down).round() as u8;
                        }
                    }
                }
                Ok(resized)
            }
        }
    }
}

/// For each of `to` places along an axis of `from` pixels: its two neighbours, and the weight of the second.
fn taps(from: usize, to: usize) -> Result<Vec<(usize, usize, f32)>> {
    let tap = |i: usize| {
        let place = ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).clamp(0.0, (from - 1) as f64);
        let first = place as usize;
        (first, (first + 1).min(from - 1), (place - first as f64) as f32)
    };
    let mut all = host::reserve("Resize", to)?;
    all.extend((0..to).map(tap));
    Ok(all)
}

/// a b / c, rounded down; the largest number where there is none that large.
fn proportion(a: usize, b: usize, c: usize) -> usize {
    usize::try_from(a as u128 * b as u128 / c as u128).unwrap_or(usize::MAX)
}

fn check_size(op: &'static str, width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::invalid(op, format!("the size {width} by {height} has no pixels")));
    }
    Ok(())
}

/// The part of `image` at column `x` of row `y`.
fn crop(image: &Image, x: usize, y: usize, width: usize, height: usize) -> Result<Image> {
    image.drawn("crop", width, height, |i, j| image.pixel(x + i, y + j))
}

/// To `width` by `height`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resize {
    width: usize,
    height: usize,
    shorter: bool,
    interpolation: Interpolation,
}

impl Resize {
    /// Exactly `width` by `height`.
    pub fn new(width: usize, height: usize) -> Self {
        Resize { width, height, shorter: false, interpolation: Interpolation::default() }
    }

    /// The shorter side to `size`, the other in proportion: Gluon's `keep_ratio`.
    pub fn shorter_side(size: usize) -> Self {
        Resize { shorter: true, ..Resize::new(size, size) }
    }

    /// How pixels between pixels are made (bilinear).
    #[must_use]
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}

impl Transform<Image> for Resize {
    type Output = Image;

    fn apply(&self, image: Image, _: &mut Generator) -> Result<Image> {
        check_size("Resize", self.width, self.height)?;
        let (w, h) = (image.width(), image.height());
        let (width, height) = match self.shorter {
            false => (self.width, self.height),
            true if w > h => (proportion(w, self.height, h), self.height),
            true => (self.width, proportion(h, self.width, w)),
        };
        if (width, height) == (w, h) {
            return Ok(image);
        }
        self.interpolation.resize(&image, width, height)
    }
}

/// A part of fixed place, and perhaps resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropResize {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    resize: Option<Resize>,
}

impl CropResize {
    /// The part of `width` by `height` whose upper left pixel is at column `x` of row `y`.
    pub fn new(x: usize, y: usize, width: usize, height: usize) -> Self {
        CropResize { x, y, width, height, resize: None }
    }

    /// Resizes the part.
    #[must_use]
    pub fn resize(mut self, resize: Resize) -> Self {
        self.resize = Some(resize);
        self
    }
}

impl Transform<Image> for CropResize {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        let &CropResize { x, y, width, height, resize } = self;
        check_size("CropResize", width, height)?;
        let within = |start: usize, size: usize, all: usize| start.checked_add(size).is_some_and(|end| end <= all);
        if !within(x, width, image.width()) || !within(y, height, image.height()) {
            let why = format!("{width} by {height} pixels from ({x}, {y}) do not lie within {image:?}");
            return Err(Error::invalid("CropResize", why));
        }
        let part = crop(&image, x, y, width, height)?;
        match resize {
            Some(resize) => resize.apply(part, generator),
            None => Ok(part),
        }
    }
}

/// `width` by `height` made as small as it must be to fit into `image`, in proportion.
fn fitted(image: &Image, width: usize, height: usize) -> (usize, usize) {
    let (mut w, mut h) = (width, height);
    if image.height() < h {
        (w, h) = (proportion(w, image.height(), h).max(1), image.height());
    }
    if image.width() < w {
        (w, h) = (image.width(), proportion(h, image.width(), w).max(1));
    }
    (w, h)
}

/// The middle part of `width` by `height`. From a smaller picture it takes the largest part of that shape, and enlarges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CenterCrop {
    width: usize,
    height: usize,
    interpolation: Interpolation,
}

impl CenterCrop {
    /// The middle `width` by `height` pixels.
    pub fn new(width: usize, height: usize) -> Self {
        CenterCrop { width, height, interpolation: Interpolation::default() }
    }

    /// How pixels between pixels are made (bilinear).
    #[must_use]
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}

impl Transform<Image> for CenterCrop {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        check_size("CenterCrop", self.width, self.height)?;
        let (w, h) = fitted(&image, self.width, self.height);
        let part = crop(&image, (image.width() - w) / 2, (image.height() - h) / 2, w, h)?;
        Resize::new(self.width, self.height).interpolation(self.interpolation).apply(part, generator)
    }
}

/// A part of `width` by `height` at a random place, after padding. From a smaller picture it takes the largest part of that
/// shape, and enlarges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RandomCrop {
    width: usize,
    height: usize,
    padding: usize,
    value: u8,
    interpolation: Interpolation,
}

impl RandomCrop {
    /// Any `width` by `height` pixels.
    pub fn new(width: usize, height: usize) -> Self {
        RandomCrop { width, height, padding: 0, value: 0, interpolation: Interpolation::default() }
    }

    /// Puts `padding` pixels of `value` around the picture first.
    #[must_use]
    pub fn padding(mut self, padding: usize, value: u8) -> Self {
        (self.padding, self.value) = (padding, value);
        self
    }

    /// How pixels between pixels are made (bilinear).
    #[must_use]
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}

impl Transform<Image> for RandomCrop {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        check_size("RandomCrop", self.width, self.height)?;
        let pad = self.padding;
        let padded = if pad == 0 {
            image
        } else {
            let around = vec![self.value; image.channels()];
            let side = |n: usize| n.saturating_add(pad.saturating_mul(2));
            let mut padded = Image::filled(side(image.width()), side(image.height()), &around)?;
            padded.paste(&image, pad, pad)?;
            padded
        };
        let (w, h) = fitted(&padded, self.width, self.height);
        let x = generator.random_range(0..=padded.width() - w);
        let y = generator.random_range(0..=padded.height() - h);
        let part = crop(&padded, x, y, w, h)?;
        Resize::new(self.width, self.height).interpolation(self.interpolation).apply(part, generator)
    }
}

/// A part of random area and aspect ratio at a random place, resized to `width` by `height` (Szegedy et al., arXiv:1409.4842).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomResizedCrop {
    width: usize,
    height: usize,
    scale: (f64, f64),
    ratio: (f64, f64),
    interpolation: Interpolation,
}

impl RandomResizedCrop {
    /// To `width` by `height`.
    pub fn new(width: usize, height: usize) -> Self {
        let interpolation = Interpolation::default();
        RandomResizedCrop { width, height, scale: (0.08, 1.0), ratio: (0.75, 4.0 / 3.0), interpolation }
    }

    /// Bounds of the part's area as a share of the whole: (0.08, 1).
    #[must_use]
    pub fn scale(mut self, least: f64, most: f64) -> Self {
        self.scale = (least, most);
        self
    }

    /// Bounds of the part's width over its height: (3/4, 4/3).
    #[must_use]
    pub fn ratio(mut self, least: f64, most: f64) -> Self {
        self.ratio = (least, most);
        self
    }

    /// How pixels between pixels are made (bilinear).
    #[must_use]
    pub fn interpolation(mut self, interpolation: Interpolation) -> Self {
        self.interpolation = interpolation;
        self
    }
}

impl Transform<Image> for RandomResizedCrop {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        check_size("RandomResizedCrop", self.width, self.height)?;
        for (name, (least, most)) in [("scale", self.scale), ("ratio", self.ratio)] {
            if !(least > 0.0 && least <= most && most.is_finite()) {
                let why = format!("{name} ({least}, {most}): bounds are positive, the lower one first");
                return Err(Error::invalid("RandomResizedCrop", why));
            }
        }
        let resize = Resize::new(self.width, self.height).interpolation(self.interpolation);
        let whole = (image.width() * image.height()) as f64;
        // Ten tries, as in Gluon and PyTorch.
        for _ in 0..10 {
            let area = whole * generator.random_range(self.scale.0..=self.scale.1);
            let ratio = generator.random_range(self.ratio.0.ln()..=self.ratio.1.ln()).exp();
            let (w, h) = ((area * ratio).sqrt().round() as usize, (area / ratio).sqrt().round() as usize);
            if (1..=image.width()).contains(&w) && (1..=image.height()).contains(&h) {
                let x = generator.random_range(0..=image.width() - w);
                let y = generator.random_range(0..=image.height() - h);
                return resize.apply(crop(&image, x, y, w, h)?, generator);
            }
        }
        CenterCrop::new(self.width, self.height).interpolation(self.interpolation).apply(image, generator)
    }
}

/// Turned about its centre by a random angle, as Gluon's `RandomRotation`. What comes from beyond the border is filled.
///
/// ```
/// use isograd::nn::data::{Generator, Transform, vision::{Image, RandomRotation}};
/// use rand::SeedableRng;
/// let image = Image::new(2, 2, 1, vec![1, 2, 3, 4])?;
/// let quarter = RandomRotation::new(90.0, 90.0).apply(image, &mut Generator::seed_from_u64(1))?;
/// assert_eq!(quarter.data(), [2, 4, 1, 3]);                            // against the clock
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomRotation {
    angles: (f64, f64),
    fill: u8,
    probability: f64,
}

impl RandomRotation {
    /// By an angle between `least` and `most`, in degrees against the clock.
    pub fn new(least: f64, most: f64) -> Self {
        RandomRotation { angles: (least, most), fill: 0, probability: 1.0 }
    }

    /// What every channel is beyond the border (0).
    #[must_use]
    pub fn fill(mut self, value: u8) -> Self {
        self.fill = value;
        self
    }

    /// How often it turns at all (always).
    #[must_use]
    pub fn probability(mut self, probability: f64) -> Self {
        self.probability = probability;
        self
    }
}

impl Transform<Image> for RandomRotation {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        let (least, most) = self.angles;
        if !(least <= most && least.is_finite() && most.is_finite()) {
            let why = format!("angles ({least}, {most}): they are finite, the lower one first");
            return Err(Error::invalid("RandomRotation", why));
        }
        if !(0.0..=1.0).contains(&self.probability) {
            return Err(Error::invalid("RandomRotation", format!("{} is no probability", self.probability)));
        }
        if !generator.random_bool(self.probability) {
            return Ok(image);
        }
        let (sin, cos) = generator.random_range(least..=most).to_radians().sin_cos();
        let (width, height) = (image.width(), image.height());
        let centre = ((width - 1) as f64 / 2.0, (height - 1) as f64 / 2.0);
        let mut data = Vec::with_capacity(image.data().len());
        for j in 0..height {
            for i in 0..width {
                // Where the pixel comes from; rows count downwards.
                let (x, y) = (i as f64 - centre.0, j as f64 - centre.1);
                let (x, y) = (centre.0 + cos * x - sin * y, centre.1 + sin * x + cos * y);
                let (left, top) = (x.floor(), y.floor());
                let (across, down) = ((x - left) as f32, (y - top) as f32);
                let value = |dx: f64, dy: f64, channel: usize| {
                    let (x, y) = (left + dx, top + dy);
                    let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
                    f32::from(if inside { image.pixel(x as usize, y as usize)[channel] } else { self.fill })
                };
                for c in 0..image.channels() {
                    let row = |dy| value(0.0, dy, c) * (1.0 - across) + value(1.0, dy, c) * across;
                    data.push((row(0.0) * (1.0 - down) + row(1.0) * down).round() as u8);
                }
            }
        }
        Image::new(height, width, image.channels(), data)
    }
}

macro_rules! flips {
    ($($(#[$doc:meta])* $name:ident, $x:ident $y:ident $width:ident $height:ident => ($from_x:expr, $from_y:expr);)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(f64);

        impl $name {
            /// With the given probability; 0 never does it, 1 always.
            pub fn new(probability: f64) -> Self {
                $name(probability)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $name(0.5)
            }
        }

        impl Transform<Image> for $name {
            type Output = Image;

            fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
                if !(0.0..=1.0).contains(&self.0) {
                    return Err(Error::invalid(stringify!($name), format!("{} is no probability", self.0)));
                }
                if !generator.random_bool(self.0) {
                    return Ok(image);
                }
                let ($width, $height) = (image.width(), image.height());
                image.drawn(stringify!($name), $width, $height, |$x, $y| image.pixel($from_x, $from_y))
            }
        }
    )* };
}
flips! {
    /// Left becomes right, with probability 1/2.
    RandomFlipLeftRight, x y width height => (width - 1 - x, y);
    /// Top becomes bottom, with probability 1/2.
    RandomFlipTopBottom, x y width height => (x, height - 1 - y);
}
