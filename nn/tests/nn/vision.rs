//! Transforms of pictures: what each does to pixels, that it depends on the generator alone, and what it refuses.

use isograd_core::{DType, Error, Result, format::HostArray};
use isograd_nn::data::{
    Dataset, Generator, Transform, cifar,
    vision::{
        Cast, CenterCrop, CropResize, Image, ImageFolder, Interpolation, Normalize, RandomBrightness,
        RandomColorJitter, RandomContrast, RandomCrop, RandomFlipLeftRight, RandomFlipTopBottom, RandomHue,
        RandomLighting, RandomResizedCrop, RandomRotation, RandomSaturation, Resize, ToTensor,
    },
};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use std::fs;

type Boxed = Box<dyn Transform<Image, Output = Image>>;

fn generator(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

fn apply(transform: impl Transform<Image, Output = Image>, image: &Image) -> Image {
    transform.apply(image.clone(), &mut generator(1)).unwrap()
}

/// A picture of one channel from its rows.
fn gray<const W: usize>(rows: &[[u8; W]]) -> Image {
    Image::new(rows.len(), W, 1, rows.concat()).unwrap()
}

fn colorful(width: usize, height: usize) -> Image {
    let data = (0..width * height * 3).map(|k| (k * 37 % 256) as u8).collect();
    Image::new(height, width, 3, data).unwrap()
}

/// One of each.
fn random() -> Vec<(&'static str, Boxed)> {
    vec![
        ("flip left right", Box::new(RandomFlipLeftRight::default())),
        ("flip top bottom", Box::new(RandomFlipTopBottom::default())),
        ("crop", Box::new(RandomCrop::new(9, 7).padding(2, 128))),
        ("rotation", Box::new(RandomRotation::new(-30.0, 30.0))),
        ("resized crop", Box::new(RandomResizedCrop::new(9, 7))),
        ("brightness", Box::new(RandomBrightness::new(0.5))),
        ("contrast", Box::new(RandomContrast::new(0.5))),
        ("saturation", Box::new(RandomSaturation::new(0.5))),
        ("hue", Box::new(RandomHue::new(0.5))),
        ("jitter", Box::new(RandomColorJitter::new().brightness(0.2).contrast(0.2).saturation(0.2).hue(0.2))),
        ("lighting", Box::new(RandomLighting::new(0.5))),
    ]
}

#[test]
fn what_is_random_depends_on_the_generator_alone() {
    let image = colorful(9, 7);
    for (name, transform) in random() {
        let of = |seed| transform.apply(image.clone(), &mut generator(seed)).unwrap();
        assert_eq!(of(5), of(5), "{name}");
        assert!((0..40).any(|seed| of(seed) != of(40)), "{name} is not random");
        assert_eq!((of(0).width(), of(0).height(), of(0).channels()), (9, 7, 3), "{name}");
    }
}

#[test]
fn flips() {
    let image = gray(&[[1, 2, 3], [4, 5, 6]]);
    assert_eq!(apply(RandomFlipLeftRight::new(1.0), &image), gray(&[[3, 2, 1], [6, 5, 4]]));
    assert_eq!(apply(RandomFlipTopBottom::new(1.0), &image), gray(&[[4, 5, 6], [1, 2, 3]]));
    assert_eq!(apply(RandomFlipTopBottom::new(0.0), &image), image);
    let flip = RandomFlipLeftRight::new(0.3);
    let flipped = (0..1000).filter(|&s| flip.apply(image.clone(), &mut generator(s)).unwrap() != image).count();
    assert!((230..370).contains(&flipped), "{flipped} of 1000");
    assert!(matches!(
        RandomFlipLeftRight::new(1.5).apply(image, &mut generator(0)),
        Err(Error::InvalidArgument { .. })
    ));
}

#[test]
fn resizing() {
    let image = gray(&[[0, 100], [200, 40]]);
    // Centres of pixels: 0.25 and 0.75 of the way between the two.
    let wide = apply(Resize::new(4, 2), &image);
    assert_eq!(wide, gray(&[[0, 25, 75, 100], [200, 160, 80, 40]]));
    let nearest = Resize::new(4, 4).interpolation(Interpolation::Nearest);
    let doubled = gray(&[[0, 0, 100, 100], [0, 0, 100, 100], [200, 200, 40, 40], [200, 200, 40, 40]]);
    assert_eq!(apply(nearest, &image), doubled);
    assert_eq!(apply(Resize::new(1, 1), &image), gray(&[[85]]));
    let shorter = apply(Resize::shorter_side(10), &colorful(30, 20));
    assert_eq!((shorter.width(), shorter.height()), (15, 10));
    let shorter = apply(Resize::shorter_side(10), &colorful(20, 30));
    assert_eq!((shorter.width(), shorter.height()), (10, 15));
    assert!(matches!(Resize::new(0, 3).apply(image, &mut generator(0)), Err(Error::InvalidArgument { .. })));
}

#[test]
fn cropping() {
    let image = gray(&[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]);
    assert_eq!(apply(CropResize::new(1, 1, 2, 2), &image), gray(&[[6, 7], [10, 11]]));
    assert_eq!(apply(CenterCrop::new(2, 1), &image), gray(&[[6, 7]]));
    let larger = apply(CenterCrop::new(8, 6), &image);
    assert_eq!((larger.width(), larger.height()), (8, 6));
    let outside = CropResize::new(3, 0, 2, 1).apply(image.clone(), &mut generator(0)).unwrap_err();
    assert!(matches!(outside, Error::InvalidArgument { .. }), "{outside}");
    assert!(CropResize::new(usize::MAX, 0, 2, 1).apply(image.clone(), &mut generator(0)).is_err());

    // Every place of a window, padded or not, and only those.
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..400 {
        let part = RandomCrop::new(2, 2).padding(1, 99).apply(image.clone(), &mut generator(seed)).unwrap();
        seen.insert(part.data().to_vec());
    }
    assert_eq!(seen.len(), 5 * 4);
    assert!(
        seen.contains(&vec![99, 99, 99, 1])
            && seen.contains(&vec![12, 99, 99, 99])
            && seen.contains(&vec![6, 7, 10, 11])
    );
    let turned = RandomResizedCrop::new(2, 2).scale(2.0, 1.0).apply(image, &mut generator(0));
    assert!(matches!(turned, Err(Error::InvalidArgument { .. })));
}

#[test]
fn colors() {
    let image = colorful(6, 5);
    let luma = |p: &[u8]| 0.299 * f64::from(p[0]) + 0.587 * f64::from(p[1]) + 0.114 * f64::from(p[2]);
    for seed in 0..50 {
        let mild = Image::filled(4, 4, &[90, 120, 150]).unwrap();
        let of = |transform: Boxed| transform.apply(mild.clone(), &mut generator(seed)).unwrap();
        let brighter = of(Box::new(RandomBrightness::new(0.5)));
        let factor = f64::from(brighter.data()[2]) / 150.0;
        assert!((0.49..1.51).contains(&factor), "{factor}");
        assert!((f64::from(brighter.data()[0]) - 90.0 * factor).abs() < 1.0, "{:?}", brighter.data());
        // One colour: contrast and saturation both move it away from its grey.
        let gray = luma(&[90, 120, 150]);
        for changed in [of(Box::new(RandomContrast::new(0.4))), of(Box::new(RandomSaturation::new(0.4)))] {
            assert!((luma(changed.pixel(0, 0)) - gray).abs() < 1.0, "{:?}", changed.data());
        }
        let turned = of(Box::new(RandomHue::new(0.3)));
        assert!((luma(turned.pixel(0, 0)) - gray).abs() < 1.5, "{:?}", turned.pixel(0, 0));
        // Grey has neither hue nor saturation.
        let flat = Image::filled(2, 2, &[77, 77, 77]).unwrap();
        for unchanged in [
            RandomHue::new(1.0).apply(flat.clone(), &mut generator(seed)),
            RandomSaturation::new(1.0).apply(flat.clone(), &mut generator(seed)),
        ] {
            unchanged.unwrap().data().iter().for_each(|&v| assert!(v.abs_diff(77) <= 1, "{v}"));
        }
    }
    assert_eq!(apply(RandomColorJitter::new(), &image), image);
    assert_eq!(apply(RandomLighting::new(0.0), &image), image);
    // A bright colour stays within its bounds.
    let white = Image::filled(1, 1, &[255; 3]).unwrap();
    assert!((0..20).any(|s| RandomBrightness::new(1.0).apply(white.clone(), &mut generator(s)).unwrap() == white));
    for refused in [
        RandomBrightness::new(-0.1).apply(image.clone(), &mut generator(0)),
        RandomLighting::new(f64::NAN).apply(image, &mut generator(0)),
    ] {
        assert!(matches!(refused, Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn from_pixels_to_numbers() {
    let image = Image::new(1, 2, 3, vec![0, 51, 102, 153, 204, 255]).unwrap();
    let array = ToTensor.apply(image.clone(), &mut generator(0)).unwrap();
    assert_eq!((array.dtype, &array.shape[..]), (DType::F32, &[3, 1, 2][..]));
    let expected = [0.0, 153.0, 51.0, 204.0, 102.0, 255.0].map(|v: f32| v / 255.0);
    assert_eq!(array.to_vec::<f32>().unwrap(), expected);
    let each = Normalize::new(&[0.0, 0.5, 1.0], &[1.0, 2.0, 4.0]).unwrap();
    let normal = each.apply(array.clone(), &mut generator(0)).unwrap().to_vec::<f32>().unwrap();
    let means = [0.0, 0.0, 0.5, 0.5, 1.0, 1.0];
    let stds = [1.0, 1.0, 2.0, 2.0, 4.0, 4.0];
    assert_eq!(normal, (0..6).map(|i| (expected[i] - means[i]) / stds[i]).collect::<Vec<f32>>());
    let one = Normalize::new(&[0.5], &[0.5]).unwrap().apply(array.clone(), &mut generator(0)).unwrap();
    assert_eq!(one.to_vec::<f32>().unwrap()[5], 1.0);
    let two = Normalize::new(&[0.5, 0.5], &[0.5]).unwrap().apply(array.clone(), &mut generator(0));
    assert!(matches!(two, Err(Error::InvalidShape { .. })));
    assert!(Normalize::new(&[0.0], &[0.0]).is_err() && Normalize::new(&[], &[1.0]).is_err());
    let bytes = HostArray::from(image.clone());
    assert!(matches!(
        each.apply(bytes, &mut generator(0)),
        Err(Error::InvalidShape { .. } | Error::DTypeMismatch { .. })
    ));
    let cast = Cast(DType::F64).apply(image, &mut generator(0)).unwrap();
    assert_eq!((cast.to_vec::<f64>().unwrap()[5], &cast.shape[..]), (255.0, &[1, 2, 3][..]));
    let back = Cast(DType::I64).apply(array, &mut generator(0)).unwrap();
    assert_eq!(back.to_vec::<i64>().unwrap(), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn pictures_and_arrays() {
    let image = colorful(3, 2);
    assert_eq!(Image::try_from(HostArray::from(image.clone())).unwrap(), image);
    let flat = HostArray::from_slice(&[1u8, 2], [1, 2]).unwrap();
    assert_eq!(Image::try_from(flat).unwrap().channels(), 1);
    let floats = HostArray::from_slice(&[1f32], [1, 1, 1]).unwrap();
    assert!(matches!(Image::try_from(floats), Err(Error::UnsupportedDType { .. })));
    let deep = HostArray::from_slice(&[1u8], [1, 1, 1, 1]).unwrap();
    assert!(matches!(Image::try_from(deep), Err(Error::InvalidShape { .. })));
    for (height, width, channels, bytes) in [(2, 2, 1, 3), (0, 2, 1, 0), (usize::MAX, 2, 1, 4)] {
        assert!(matches!(Image::new(height, width, channels, vec![0; bytes]), Err(Error::InvalidShape { .. })));
    }
    assert!(image.clone().paste(&gray(&[[1]]), 0, 0).is_err());
}

proptest! {
    #[test]
    fn any_size_goes_through_everything(width in 1usize..12, height in 1usize..12, seed: u64) {
        let image = colorful(width, height);
        for (name, transform) in random() {
            let result = transform.apply(image.clone(), &mut generator(seed));
            prop_assert!(result.is_ok(), "{}: {:?}", name, result);
        }
        let center = apply(CenterCrop::new(5, 3), &image);
        prop_assert_eq!((center.width(), center.height()), (5, 3));
    }

    #[test]
    fn damaged_files_are_faults(mut at in 0usize..60, byte: u8, keep in 0usize..60) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        colorful(2, 2).save_png(&path).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        at %= bytes.len();
        bytes[at] ^= byte;
        bytes.truncate(keep.max(1));
        if let Err(error) = Image::from_bytes(&bytes, 3) {
            let fault = matches!(error, Error::File { .. });
            prop_assert!(fault, "{}", error);
        }
    }
}

/// A JPEG file of many pixels, and copies of it with a few bytes changed.
fn damaged_jpegs(count: u64) -> impl Iterator<Item = Vec<u8>> {
    let image = Image::new(24, 24, 3, (0..24 * 24 * 3).map(|i| (i * i % 251) as u8).collect()).unwrap();
    let mut whole = Vec::new();
    let encoder = ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut whole, 60);
    let color = ::image::ExtendedColorType::Rgb8;
    ::image::ImageEncoder::write_image(encoder, image.data(), 24, 24, color).unwrap();
    // The frame header: its kind, height, width, and how the three channels are sampled.
    let frame = whole.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
    (0..count).map(move |seed| {
        let (mut bytes, mut generator) = (whole.clone(), generator(seed));
        if generator.random_bool(0.5) {
            bytes[frame + 1] = 0xc2;
        }
        if generator.random_bool(0.5) {
            let factors = [0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x42];
            (0..3).for_each(|channel| bytes[frame + 11 + 3 * channel] = factors[generator.random_range(0..7)]);
        }
        if generator.random_bool(0.3) {
            (bytes[frame + 6], bytes[frame + 8]) = (generator.random_range(1..80), generator.random_range(1..80));
        }
        for _ in 0..generator.random_range(0..4) {
            let at = generator.random_range(frame..bytes.len());
            bytes[at] = generator.random();
        }
        bytes
    })
}

#[test]
fn a_damaged_jpeg_is_a_picture_or_a_fault() {
    for bytes in damaged_jpegs(6000) {
        if let Err(error) = Image::from_bytes(&bytes, 3) {
            assert!(matches!(error, Error::File { .. }), "{error}");
        }
    }
}

#[test]
fn a_small_file_does_not_become_a_huge_picture() {
    // 30,000 by 30,000 pixels, as a PNG may claim in 33 bytes.
    let mut header = b"IHDR\x00\x00\x75\x30\x00\x00\x75\x30\x08\x02\x00\x00\x00".to_vec();
    let crc = png_crc(&header);
    header.extend(crc.to_be_bytes());
    let mut bytes = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0d".to_vec();
    bytes.extend(header);
    bytes.extend(b"\x00\x00\x00\x00IDAT\x35\xaf\x06\x1e\x00\x00\x00\x00IEND\xae\x42\x60\x82");
    let error = Image::from_bytes(&bytes, 3).unwrap_err();
    assert!(matches!(error, Error::File { .. }) && error.to_string().to_lowercase().contains("limit"), "{error}");
}

/// CRC-32 as PNG has it.
fn png_crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

#[test]
fn pictures_beyond_all_memory_are_refused() {
    let image = colorful(3, 2);
    let refused = |what: &str, result: Result<Image>| {
        let error = result.err().unwrap_or_else(|| panic!("{what} was made"));
        assert!(matches!(error, Error::OutOfMemory { .. } | Error::InvalidArgument { .. }), "{what}: {error}");
    };
    for n in [1 << 40, 1 << 62, 1 << 63, usize::MAX] {
        let on = |transform: Boxed| transform.apply(image.clone(), &mut generator(1));
        refused("filled", Image::filled(n, n, &[1, 2, 3]));
        refused("filled", Image::filled(1, n, &[1, 2, 3]));
        assert!(matches!(Image::filled(0, n, &[1]), Err(Error::InvalidShape { .. })));
        assert!(matches!(Image::filled(n, n, &[]), Err(Error::InvalidShape { .. })));
        for interpolation in [Interpolation::Nearest, Interpolation::Bilinear] {
            refused("Resize", on(Box::new(Resize::new(n, 2).interpolation(interpolation))));
            refused("Resize", on(Box::new(Resize::new(n, n).interpolation(interpolation))));
            refused("Resize", on(Box::new(Resize::shorter_side(n).interpolation(interpolation))));
        }
        refused("CenterCrop", on(Box::new(CenterCrop::new(n, 2))));
        refused("RandomCrop", on(Box::new(RandomCrop::new(n, n))));
        refused("padding", on(Box::new(RandomCrop::new(2, 2).padding(n, 0))));
        refused("CropResize", on(Box::new(CropResize::new(n, n, n, n))));
        refused("CropResize", on(Box::new(CropResize::new(0, 0, 2, 2).resize(Resize::new(n, n)))));
        refused("RandomResizedCrop", on(Box::new(RandomResizedCrop::new(n, 1))));
    }
}

#[test]
fn folders_of_pictures() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for class in ["dog", "cat", ".hidden", "empty"] {
        fs::create_dir(root.join(class)).unwrap();
    }
    let (red, blue) = (Image::filled(2, 3, &[255, 0, 0])?, Image::filled(1, 1, &[0, 0, 255])?);
    red.save_png(root.join("dog/b.png"))?;
    blue.save_png(root.join("dog/a.PNG"))?;
    red.save_png(root.join("cat/one.png"))?;
    red.save_png(root.join(".hidden/one.png"))?;
    fs::write(root.join("cat/notes.txt"), "no picture").unwrap();
    fs::write(root.join("dog/broken.png"), "no picture").unwrap();
    let pictures = ImageFolder::new(root)?;
    assert_eq!(pictures.classes(), ["cat", "dog", "empty"]);
    assert_eq!(pictures.len(), 4);
    assert_eq!(pictures.get(0)?, (red.clone(), 0));
    assert_eq!(pictures.get(1)?, (blue, 1));
    assert_eq!(pictures.get(2)?, (red, 1));
    let broken = pictures.get(3).unwrap_err();
    assert!(matches!(&broken, Error::File { path: Some(path), .. } if path.ends_with("dog/broken.png")), "{broken}");
    assert!(matches!(pictures.get(4), Err(Error::InvalidArgument { .. })));
    assert_eq!(pictures.gray().get(0)?.0.data(), [54; 6]);
    assert!(matches!(ImageFolder::new(root.join("empty")), Err(Error::InvalidArgument { .. })));
    assert!(matches!(ImageFolder::new(root.join("none")), Err(Error::Io { .. })));
    assert!(matches!(Image::load(root.join("none"), 3), Err(Error::Io { .. })));
    assert!(matches!(Image::load(root.join("cat/one.png"), 2), Err(Error::InvalidArgument { .. })));
    let truncated = fs::read(root.join("cat/one.png")).unwrap();
    assert!(matches!(Image::from_bytes(&truncated[..40], 3), Err(Error::File { .. })));
    Ok(())
}

#[test]
fn cifar_files() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let planes = |r: u8, g: u8, b: u8| [vec![r; 1024], vec![g; 1024], vec![b; 1024]].concat();
    let mut second = planes(4, 5, 6);
    (second[1], second[1024 + 32]) = (99, 88);
    let ten = file("ten.bin", &[&[9][..], &planes(1, 2, 3), &[0], &second].concat());
    let dataset = cifar::load_cifar10(&[&ten, &ten])?;
    let [images, classes] = dataset.arrays();
    assert_eq!((&images.shape[..], classes.to_vec::<i64>()?), (&[4, 32, 32, 3][..], vec![9, 0, 9, 0]));
    let image = Image::try_from(dataset.get(3)?[0].clone())?;
    assert_eq!(
        (image.pixel(0, 0), image.pixel(1, 0), image.pixel(0, 1)),
        (&[4, 5, 6][..], &[99, 5, 6][..], &[4, 88, 6][..])
    );
    let hundred = file("hundred.bin", &[&[19, 99][..], &planes(1, 2, 3)].concat());
    let [_, fine, coarse] = cifar::load_cifar100(&[&hundred])?.arrays().clone();
    assert_eq!((fine.to_vec::<i64>()?, coarse.to_vec::<i64>()?), (vec![99], vec![19]));

    let fault = |bytes: &[u8], position: u64| {
        let path = file("bad.bin", bytes);
        let error = cifar::load_cifar10(&[&path]).unwrap_err();
        let placed = matches!(&error, Error::File { path: Some(p), at, .. } if *p == path && *at == position);
        assert!(placed, "{error}");
    };
    fault(&[], 0);
    fault(&[&[1][..], &planes(1, 2, 3), &[1, 2]].concat(), 3073);
    fault(&[&[1][..], &planes(1, 2, 3), &[10], &planes(1, 2, 3)].concat(), 3073);
    assert!(matches!(cifar::load_cifar10(&["no such file"]), Err(Error::Io { .. })));
    Ok(())
}
