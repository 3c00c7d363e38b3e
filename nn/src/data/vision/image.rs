//! [`Image`]: a picture in host memory.

use isograd_core::{DType, Error, Result, Shape, format::HostArray, host};
#[cfg(feature = "image")]
use {isograd_core::format::not_of, std::path::Path};

/// The most bytes that decoding a file may take: 512 MiB. A small file can claim to be a large picture, and be one.
#[cfg(feature = "image")]
pub const MAX_DECODED: u64 = 512 << 20;

/// A picture of 8 bits per channel.
///
/// ```
/// use isograd::nn::data::vision::Image;
/// let mut image = Image::filled(2, 1, &[255, 0, 0])?;
/// image.set_pixel(1, 0, &[0, 0, 255]);
/// assert_eq!(image.data(), [255, 0, 0, 0, 0, 255]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    height: usize,
    width: usize,
    channels: usize,
    data: Vec<u8>,
}

impl Image {
    /// A picture of `height` rows of `width` pixels of `channels` numbers.
    ///
    /// # Errors
    /// [`Error::InvalidShape`] when `data` has another length, or a size is 0.
    pub fn new(height: usize, width: usize, channels: usize, data: Vec<u8>) -> Result<Image> {
        let size = height.checked_mul(width).and_then(|n| n.checked_mul(channels));
        if size != Some(data.len()) || data.is_empty() {
            let why =
                format!("a picture [height, width, channels] has a pixel at least, and there are {} bytes", data.len());
            let shape = [height, width, channels].into();
            return Err(Error::InvalidShape { op: "Image", shape, why, device: "host".to_string() });
        }
        Ok(Image { height, width, channels, data })
    }

    /// A picture whose pixels are all `pixel`.
    ///
    /// # Errors
    /// As [`Image::new`]; [`Error::OutOfMemory`].
    pub fn filled(width: usize, height: usize, pixel: &[u8]) -> Result<Image> {
        let data = pixels("Image::filled", width, height, pixel.len(), |_, _| pixel)?;
        Image::new(height, width, pixel.len(), data)
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Numbers of a pixel: 1 for grey, 3 for colours.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The numbers, row after row, pixel after pixel.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    pub(super) fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The pixel at column `x` of row `y`.
    ///
    /// # Panics
    /// Panics when there is none.
    pub fn pixel(&self, x: usize, y: usize) -> &[u8] {
        &self.data[self.at(x, y)..][..self.channels]
    }

    /// Changes the pixel at column `x` of row `y`.
    ///
    /// # Panics
    /// Panics when there is none, or `pixel` has another number of channels.
    pub fn set_pixel(&mut self, x: usize, y: usize, pixel: &[u8]) {
        let at = self.at(x, y);
        self.data[at..at + self.channels].copy_from_slice(pixel);
    }

    fn at(&self, x: usize, y: usize) -> usize {
        assert!(x < self.width && y < self.height, "pixel ({x}, {y}) is outside {self:?}");
        (y * self.width + x) * self.channels
    }

    /// A picture of `width` by `height` with as many channels whose pixels are `pixel(x, y)`.
    pub(super) fn drawn<'a>(
        &self,
        op: &'static str,
        width: usize,
        height: usize,
        pixel: impl Fn(usize, usize) -> &'a [u8],
    ) -> Result<Image> {
        let data = pixels(op, width, height, self.channels, pixel)?;
        Ok(Image { height, width, channels: self.channels, data })
    }

    /// Puts `other` on this picture, its upper left corner at column `x` of row `y`; what lies outside is left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the numbers of channels differ.
    pub fn paste(&mut self, other: &Image, x: usize, y: usize) -> Result<()> {
        if self.channels != other.channels {
            return Err(Error::invalid("Image::paste", format!("{other:?} and {self:?} have different channels")));
        }
        for row in 0..other.height.min(self.height.saturating_sub(y)) {
            for column in 0..other.width.min(self.width.saturating_sub(x)) {
                self.set_pixel(x + column, y + row, other.pixel(column, row));
            }
        }
        Ok(())
    }

    /// Reads a PNG, JPEG, BMP or PNM file: `channels` is 1 for shades of grey or 3 for red, green and blue, whatever the file
    /// has.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::File`] with the path for what is no picture, and for one that takes more than [`MAX_DECODED`] bytes;
    /// [`Error::InvalidArgument`] for other `channels`.
    #[cfg(feature = "image")]
    pub fn load(path: impl AsRef<Path>, channels: usize) -> Result<Image> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| Error::Io { action: "read", path: path.into(), source })?;
        Image::from_bytes(&bytes, channels).map_err(|e| e.with_path(path))
    }

    /// [`Image::load`] from the bytes of a file.
    ///
    /// # Errors
    /// As [`Image::load`].
    #[cfg(feature = "image")]
    pub fn from_bytes(bytes: &[u8], channels: usize) -> Result<Image> {
        if channels != 1 && channels != 3 {
            return Err(Error::invalid("Image", format!("a file is read with 1 or 3 channels, not {channels}")));
        }
        if ::image::guess_format(bytes).is_err() {
            return Err(Error::file("picture", 0, not_of("picture", bytes) + "; PNG, JPEG, BMP and PNM are read"));
        }
        let mut cursor = std::io::Cursor::new(bytes);
        let decoded = unpanicked(|| {
            let mut reader = ::image::ImageReader::new(&mut cursor).with_guessed_format()?;
            let mut limits = ::image::Limits::default();
            limits.max_alloc = Some(MAX_DECODED);
            reader.limits(limits);
            let decoded = reader.decode()?;
            let (width, height) = (decoded.width() as usize, decoded.height() as usize);
            let data = if channels == 1 { decoded.into_luma8().into_raw() } else { decoded.into_rgb8().into_raw() };
            Ok((height, width, data))
        });
        let (height, width, data) = decoded.map_err(|why| Error::file("picture", cursor.position(), why))?;
        Image::new(height, width, channels, data)
    }

    /// Writes a PNG file. An old file is replaced whole or left as it was.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::InvalidArgument`] for a number of channels that is neither 1 nor 3.
    #[cfg(feature = "image")]
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<()> {
        use ::image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
        let color = match self.channels {
            1 => ExtendedColorType::L8,
            3 => ExtendedColorType::Rgb8,
            n => return Err(Error::invalid("Image::save_png", format!("{n} channels; it takes 1 or 3"))),
        };
        let side = |n: usize| {
            u32::try_from(n)
                .map_err(|_| Error::invalid("Image::save_png", format!("{self:?} is too large for the format")))
        };
        let (width, height) = (side(self.width)?, side(self.height)?);
        let mut bytes = Vec::new();
        let written = PngEncoder::new(&mut bytes).write_image(&self.data, width, height, color);
        written.map_err(|e| Error::invalid("Image::save_png", e.to_string()))?;
        isograd_core::format::save_bytes(path, &bytes)
    }
}

/// The numbers of `width` by `height` pixels, row after row.
fn pixels<'a>(
    op: &'static str,
    width: usize,
    height: usize,
    channels: usize,
    pixel: impl Fn(usize, usize) -> &'a [u8],
) -> Result<Vec<u8>> {
    let size = Shape::from([width, height, channels]).size();
    let mut data = host::reserve(op, size)?;
    // Where there is nothing, nothing is counted, however many rows of it there are.
    if size > 0 {
        (0..height).for_each(|y| (0..width).for_each(|x| data.extend_from_slice(pixel(x, y))));
    }
    Ok(data)
}

/// What a decoder gives, or what it says is wrong: some panic on damaged files.
#[cfg(feature = "image")]
fn unpanicked<T>(decode: impl FnOnce() -> ::image::ImageResult<T>) -> Result<T, String> {
    // What was decoded so far is dropped, so nobody sees it half done.
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(decode)) {
        Ok(decoded) => decoded.map_err(|error| error.to_string()),
        Err(_) => Err("the file is damaged: its decoder gave up".into()),
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({} high, {} wide, {} channels)", self.height, self.width, self.channels)
    }
}

/// As `u8` of shape `[height, width, channels]`.
impl From<Image> for HostArray {
    fn from(image: Image) -> HostArray {
        let shape = [image.height, image.width, image.channels].into();
        HostArray { dtype: DType::U8, shape, bytes: image.data }
    }
}

/// From `u8` of shape `[height, width, channels]`, or `[height, width]`.
impl TryFrom<HostArray> for Image {
    type Error = Error;

    fn try_from(array: HostArray) -> Result<Image> {
        if array.dtype != DType::U8 {
            let why = "a picture has elements of u8".to_string();
            return Err(Error::UnsupportedDType { op: "Image", dtype: array.dtype, device: "host".to_string(), why });
        }
        match array.shape[..] {
            [height, width] => Image::new(height, width, 1, array.bytes),
            [height, width, channels] => Image::new(height, width, channels, array.bytes),
            _ => Err(Error::InvalidShape {
                op: "Image",
                shape: array.shape.clone(),
                why: "a picture is [height, width, channels] or [height, width]".to_string(),
                device: "host".to_string(),
            }),
        }
    }
}

#[cfg(all(test, feature = "image"))]
mod tests {
    use super::unpanicked;

    #[test]
    fn a_decoder_that_panics_gives_a_fault() {
        let fault = unpanicked(|| -> ::image::ImageResult<()> { panic!("index out of bounds") });
        assert!(fault.unwrap_err().contains("damaged"));
        assert_eq!(unpanicked(|| Ok(7)), Ok(7));
        assert!(unpanicked(|| Err::<(), _>(std::io::Error::other("short").into())).unwrap_err().contains("short"));
    }
}
