//! From a picture to numbers for a network: [`ToTensor`], [`Normalize`], [`Cast`].

use super::Image;
use crate::{
    data::{Generator, Transform},
    options,
};
use isograd_core::{DType, Error, Result, Value, format::HostArray};

/// `u8` of `[height, width, channels]` to `f32` of `[channels, height, width]` between 0 and 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToTensor;

impl Transform<Image> for ToTensor {
    type Output = HostArray;

    fn apply(&self, image: Image, _: &mut Generator) -> Result<HostArray> {
        let channels = image.channels();
        let mut values = Vec::with_capacity(image.data().len());
        for channel in 0..channels {
            values.extend(image.data().iter().skip(channel).step_by(channels).map(|&v| f32::from(v) / 255.0));
        }
        HostArray::from_slice(&values, [channels, image.height(), image.width()])
    }
}

/// (x - mean) / std for each channel of `f32` of shape `[channels, ...]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Normalize {
    mean: Vec<f32>,
    std: Vec<f32>,
}

impl Normalize {
    /// One mean and one standard deviation for each channel, or one of each for all.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when there are none, or not as many of each (one aside); when a mean is not finite, or a
    /// standard deviation is not finite and above 0.
    pub fn new(mean: &[f32], std: &[f32]) -> Result<Self> {
        let lengths = mean.len() == std.len() || mean.len() == 1 || std.len() == 1;
        let numbers = mean.iter().all(|m| m.is_finite()) && std.iter().all(|s| *s > 0.0 && s.is_finite());
        let holds = lengths && numbers && !mean.is_empty() && !std.is_empty();
        let rule = "lists of one length (or of one number), finite, and every std above 0";
        options::require("Normalize", "mean and std", (mean, std), holds, rule)?;
        Ok(Normalize { mean: mean.to_vec(), std: std.to_vec() })
    }
}

impl Transform<HostArray> for Normalize {
    type Output = HostArray;

    fn apply(&self, array: HostArray, _: &mut Generator) -> Result<HostArray> {
        let channels = array.shape.first().copied().unwrap_or(0);
        let fits = |n: usize| n == 1 || n == channels;
        if !fits(self.mean.len()) || !fits(self.std.len()) {
            return Err(Error::InvalidShape {
                op: "Normalize",
                shape: array.shape.clone(),
                why: format!("there are {} means and {} stds for the first axis", self.mean.len(), self.std.len()),
                device: "host".to_string(),
            });
        }
        let mut values = array.to_vec::<f32>()?;
        let size = (values.len() / channels.max(1)).max(1);
        for (channel, values) in values.chunks_exact_mut(size).enumerate() {
            let of = |numbers: &[f32]| numbers[channel % numbers.len()];
            let (mean, std) = (of(&self.mean), of(&self.std));
            values.iter_mut().for_each(|v| *v = (*v - mean) / std);
        }
        HostArray::from_slice(&values, array.shape)
    }
}

/// To another dtype, with the rules of `Tensor::cast`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cast(pub DType);

impl Transform<HostArray> for Cast {
    type Output = HostArray;

    fn apply(&self, array: HostArray, _: &mut Generator) -> Result<HostArray> {
        array.check()?;
        let (from, to) = (array.dtype, self.0);
        let mut bytes = vec![0; array.bytes.len() / from.size() * to.size()];
        let mut source = array.bytes;
        swap(&mut source, from);
        for i in 0..source.len() / from.size() {
            Value::read(from, &source, i).cast(to).write(&mut bytes, i);
        }
        swap(&mut bytes, to);
        HostArray::new(to, array.shape, bytes)
    }
}

/// Between the order of bytes of host arrays and that of this machine.
fn swap(bytes: &mut [u8], dtype: DType) {
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
    }
}

impl Transform<Image> for Cast {
    type Output = HostArray;

    fn apply(&self, image: Image, generator: &mut Generator) -> Result<HostArray> {
        self.apply(HostArray::from(image), generator)
    }
}
