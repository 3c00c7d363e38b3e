//! [`ImageFolder`]: pictures in folders by class.

use super::Image;
use crate::data::{Dataset, dataset::check};
use isograd_core::{Error, Result};
use std::{
    fs,
    path::{Path, PathBuf},
};

const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "bmp", "pbm", "pgm", "ppm", "pnm"];

/// The pictures `folder/CLASS/NAME.png` (also jpg, jpeg, bmp, pbm, pgm, ppm and pnm), each with the number of its class.
///
/// Classes are numbered in the order of their names, and so are the pictures of a class. A picture is read when it is asked for.
#[derive(Clone, Debug)]
pub struct ImageFolder {
    classes: Vec<String>,
    files: Vec<(PathBuf, i64)>,
    channels: usize,
}

impl ImageFolder {
    /// The pictures in the folders of `folder`, in colours. Names that begin with a dot, and files of other kinds, are passed
    /// over.
    ///
    /// # Errors
    /// [`Error::Io`] for a folder that cannot be read; [`Error::InvalidArgument`] when there are no pictures.
    pub fn new(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut found = ImageFolder { classes: Vec::new(), files: Vec::new(), channels: 3 };
        for class in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
            let number = found.classes.len() as i64;
            let is_picture = |path: &PathBuf| {
                let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_lowercase();
                path.is_file() && EXTENSIONS.contains(&&extension[..])
            };
            found.files.extend(entries(&class)?.into_iter().filter(is_picture).map(|path| (path, number)));
            found.classes.push(class.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
        if found.files.is_empty() {
            let why = format!(
                "{} has no pictures; they are expected at CLASS/NAME.png (or {})",
                folder.display(),
                EXTENSIONS[1..].join(", ")
            );
            return Err(Error::invalid("ImageFolder", why));
        }
        Ok(found)
    }

    /// In shades of grey.
    #[must_use]
    pub fn gray(mut self) -> Self {
        self.channels = 1;
        self
    }

    /// The names of the classes, in the order of their numbers.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The files, with the numbers of their classes.
    pub fn files(&self) -> &[(PathBuf, i64)] {
        &self.files
    }
}

/// What is in a folder, in the order of the names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::Io { action: "list", path: folder.into(), source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

impl Dataset for ImageFolder {
    type Item = (Image, i64);

    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize) -> Result<(Image, i64)> {
        check("ImageFolder", index, self.files.len())?;
        let (path, class) = &self.files[index];
        Ok((Image::load(path, self.channels)?, *class))
    }
}
