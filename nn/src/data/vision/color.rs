//! Transforms that change colours. Each works on numbers 0 to 255, and rounds and limits its result to them.

use super::Image;
use crate::data::{Generator, Transform};
use isograd_core::{Error, Result};
use rand::{RngExt, seq::SliceRandom};
use std::f64::consts::{PI, TAU};

/// Shares of red, green and blue in the brightness that is seen (ITU-R BT.601).
const LUMA: [f64; 3] = [0.299, 0.587, 0.114];

/// The brightness of a pixel: of three channels their luma, otherwise their mean.
fn luma(pixel: &[u8]) -> f64 {
    match pixel {
        &[r, g, b] => LUMA[0] * f64::from(r) + LUMA[1] * f64::from(g) + LUMA[2] * f64::from(b),
        _ => pixel.iter().map(|&v| f64::from(v)).sum::<f64>() / pixel.len() as f64,
    }
}

fn to_byte(value: f64) -> u8 {
    value.round() as u8
}

/// Changes every number `v` of every pixel to `f(v, luma of the pixel)`.
fn recolor(image: &mut Image, f: impl Fn(f64, f64) -> f64) {
    let channels = image.channels();
    for pixel in image.data_mut().chunks_exact_mut(channels) {
        let gray = luma(pixel);
        pixel.iter_mut().for_each(|v| *v = to_byte(f(f64::from(*v), gray)));
    }
}

/// Changes every pixel (red, green, blue) to `f` of it. What has other channels has no hue, and stays as it is.
fn remix(image: &mut Image, f: impl Fn([f64; 3]) -> [f64; 3]) {
    if image.channels() == 3 {
        for pixel in image.data_mut().chunks_exact_mut(3) {
            let mixed = f([0, 1, 2].map(|c| f64::from(pixel[c])));
            pixel.iter_mut().zip(mixed).for_each(|(v, m)| *v = to_byte(m));
        }
    }
}

fn multiply(matrix: &[[f64; 3]; 3], v: [f64; 3]) -> [f64; 3] {
    matrix.map(|row| row[0] * v[0] + row[1] * v[1] + row[2] * v[2])
}

macro_rules! strengths {
    ($($(#[$doc:meta])* $name:ident, |$image:ident, $drawn:ident| $change:block)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name(f64);

        impl $name {
            /// With a strength of 0 nothing changes; it is at most 1.
            pub fn new(strength: f64) -> Self {
                $name(strength)
            }
        }

        impl Transform<Image> for $name {
            type Output = Image;

            fn apply(&self, mut $image: Image, generator: &mut Generator) -> Result<Image> {
                if !(0.0..=1.0).contains(&self.0) {
                    return Err(Error::invalid(stringify!($name), format!("the strength {} is not in 0..=1", self.0)));
                }
                let $drawn = generator.random_range(-self.0..=self.0);
                if $drawn != 0.0 {
                    $change
                }
                Ok($image)
            }
        }
    )* };
}
strengths! {
    /// Multiplies by 1 + u, where u is drawn between plus and minus the strength.
    RandomBrightness, |image, u| {
        recolor(&mut image, |v, _| v * (1.0 + u));
    }

    /// Moves every number away from the mean luma of the picture by a factor of 1 + u.
    RandomContrast, |image, u| {
        let pixels = image.data().chunks_exact(image.channels());
        let mean = pixels.map(luma).sum::<f64>() / (image.width() * image.height()) as f64;
        recolor(&mut image, |v, _| mean + (v - mean) * (1.0 + u));
    }

    /// Moves every number away from the luma of its pixel by a factor of 1 + u.
    RandomSaturation, |image, u| {
        recolor(&mut image, |v, gray| gray + (v - gray) * (1.0 + u));
    }

    /// Turns the colours of (red, green, blue) by the angle πu around grey, in the plane of the YIQ colour space.
    RandomHue, |image, u| {
        const TO_YIQ: [[f64; 3]; 3] = [LUMA, [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]];
        const FROM_YIQ: [[f64; 3]; 3] = [[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]];
        let (sin, cos) = (PI * u).sin_cos();
        remix(&mut image, |pixel| {
            let [y, i, q] = multiply(&TO_YIQ, pixel);
            multiply(&FROM_YIQ, [y, cos * i - sin * q, sin * i + cos * q])
        });
    }
}

/// Brightness, contrast, saturation and hue, in random order.
///
/// ```
/// use isograd::nn::data::{Generator, Transform, vision::{Image, RandomColorJitter}};
/// use rand::SeedableRng;
/// let jitter = RandomColorJitter::new().brightness(0.4).hue(0.1);
/// let image = Image::filled(4, 4, &[200, 100, 50])?;
/// let twice = [(); 2].map(|_| jitter.apply(image.clone(), &mut Generator::seed_from_u64(3)));
/// let [first, second] = twice;
/// let first = first?;
/// assert_eq!(first, second?);
/// assert_ne!(first, image);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RandomColorJitter {
    brightness: f64,
    contrast: f64,
    saturation: f64,
    hue: f64,
}

impl RandomColorJitter {
    /// All strengths 0.
    pub fn new() -> Self {
        RandomColorJitter::default()
    }

    /// Strength of [`RandomBrightness`].
    #[must_use]
    pub fn brightness(mut self, strength: f64) -> Self {
        self.brightness = strength;
        self
    }

    /// Strength of [`RandomContrast`].
    #[must_use]
    pub fn contrast(mut self, strength: f64) -> Self {
        self.contrast = strength;
        self
    }

    /// Strength of [`RandomSaturation`].
    #[must_use]
    pub fn saturation(mut self, strength: f64) -> Self {
        self.saturation = strength;
        self
    }

    /// Strength of [`RandomHue`].
    #[must_use]
    pub fn hue(mut self, strength: f64) -> Self {
        self.hue = strength;
        self
    }
}

impl Transform<Image> for RandomColorJitter {
    type Output = Image;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<Image> {
        let mut order = [0, 1, 2, 3];
        order.shuffle(generator);
        order.iter().try_fold(image, |image, which| match which {
            0 => RandomBrightness(self.brightness).apply(image, generator),
            1 => RandomContrast(self.contrast).apply(image, generator),
            2 => RandomSaturation(self.saturation).apply(image, generator),
            _ => RandomHue(self.hue).apply(image, generator),
        })
    }
}

/// Adds to (red, green, blue) a random mix of the principal components of the colours of ImageNet (Krizhevsky et al., *ImageNet
/// classification with deep convolutional neural networks*, 2012).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RandomLighting(f64);

impl RandomLighting {
    /// The components' shares are normal, of standard deviation `alpha`; the paper has 0.1.
    pub fn new(alpha: f64) -> Self {
        RandomLighting(alpha)
    }
}

impl Transform<Image> for RandomLighting {
    type Output = Image;

    fn apply(&self, mut image: Image, generator: &mut Generator) -> Result<Image> {
        const VALUES: [f64; 3] = [55.46, 4.794, 1.148];
        const VECTORS: [[f64; 3]; 3] =
            [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]];
        if !(self.0 >= 0.0 && self.0.is_finite()) {
            return Err(Error::invalid("RandomLighting", format!("the standard deviation {} is negative", self.0)));
        }
        let shares = VALUES.map(|value| value * self.0 * normal(generator));
        let added = multiply(&VECTORS, shares);
        remix(&mut image, |pixel| [0, 1, 2].map(|c| pixel[c] + added[c]));
        Ok(image)
    }
}

/// A normal number (Box and Muller, *A note on the generation of random normal deviates*, 1958).
fn normal(generator: &mut Generator) -> f64 {
    let (radius, angle) = (1.0 - generator.random::<f64>(), generator.random::<f64>());
    (-2.0 * radius.ln()).sqrt() * (TAU * angle).cos()
}
