//! Pictures in host memory, and what is done to them before a network sees them: Gluon's `transforms`.
//!
//! An [`Image`] has 8 bits per channel, rows from top to bottom, the channels of a pixel together (`[height, width, channels]`).
//! Transforms of pictures give pictures; at the end [`ToTensor`] makes an array of them, which [`Normalize`] and [`Cast`] take.
//! What a random transform does depends on the generator alone.
//!
//! To add a transform: a struct in `geometry` or `color` with an `impl Transform<Image>`, and its row in `nn/tests/vision.rs`.

mod array;
mod color;
#[cfg(feature = "image")]
mod folder;
mod geometry;
mod image;

pub use array::{Cast, Normalize, ToTensor};
pub use color::{RandomBrightness, RandomColorJitter, RandomContrast, RandomHue, RandomLighting, RandomSaturation};
#[cfg(feature = "image")]
pub use folder::ImageFolder;
pub use geometry::{
    CenterCrop, CropResize, Interpolation, RandomCrop, RandomFlipLeftRight, RandomFlipTopBottom, RandomResizedCrop,
    RandomRotation, Resize,
};
pub use image::Image;
#[cfg(feature = "image")]
pub use image::MAX_DECODED;
