//! What a file is by its first bytes, for the error of a reader that was given another kind of file than its own.

/// How many bytes [`recognize`] looks at.
pub const START: usize = 64;

/// First bytes, and what begins so.
const KINDS: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, which stands for a file that has not been fetched; run `git lfs pull`",
    ),
    (b"\x93NUMPY", "a .npy file of NumPy"),
    (
        b"PK\x03\x04",
        "a zip archive: a .npz file of NumPy, or what torch.save writes (safetensors.torch.save_file writes .safetensors)",
    ),
    (b"\x12\x01\0\0\0\0\0\0", "a .params or .nd file of MXNet"),
    (b"\x80\x02", "a Python pickle, such as older files of PyTorch; save the arrays by numpy.savez or as .safetensors"),
    (b"\x80\x03", "a Python pickle; save the arrays by numpy.savez or as .safetensors"),
    (b"\x80\x04", "a Python pickle; save the arrays by numpy.savez or as .safetensors"),
    (b"\x80\x05", "a Python pickle; save the arrays by numpy.savez or as .safetensors"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, as Keras writes them; save the arrays as .npz or .safetensors"),
    (b"GGUF\x02\0\0\0", "a GGUF file"),
    (b"GGUF\x03\0\0\0", "a GGUF file"),
    (b"\x1f\x8b", "data compressed by gzip; decompress the file first"),
    (b"\xfd7zXZ\0", "data compressed by xz; decompress the file first"),
    (b"\x28\xb5\x2f\xfd", "data compressed by zstd; decompress the file first"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF-", "a PDF document"),
];

/// What a web page begins with, in any case.
const PAGES: [&[u8]; 3] = [b"<!doctype html", b"<html", b"<?xml"];

/// What kind of file begins with `start`, in words that end an error message, with the way out where there is one. The first 64
/// bytes are enough.
///
/// ```
/// use isograd::format::recognize;
/// let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 52\n";
/// assert!(recognize(pointer).unwrap().contains("git lfs pull"));
/// assert_eq!(recognize(b"1.5,2.5\n"), None);
/// ```
pub fn recognize(start: &[u8]) -> Option<&'static str> {
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if let Some((_, kind)) = KINDS.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(kind);
    }
    let text = start.trim_ascii_start();
    if PAGES.iter().any(|page| text.get(..page.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(page))) {
        return Some("a web page, where the download of a file was refused perhaps; open it in a browser to see why");
    }
    // The length of a header of JSON.
    let length = start.first_chunk().map(|length| u64::from_le_bytes(*length));
    let is_safetensors = start.get(8) == Some(&b'{') && length.is_some_and(|n| n <= super::safetensors::MAX_HEADER);
    is_safetensors.then_some("a .safetensors file")
}

/// Why a file that begins with `start` is not one of `format`: what it is instead, or what it begins with.
///
/// ```
/// use isograd::format::not_of;
/// assert_eq!(not_of("npy", b"hello"), "no npy file: it begins with \"hello\"");
/// assert_eq!(not_of("npy", b"%PDF-1.7"), "no npy file: it is a PDF document");
/// ```
pub fn not_of(format: &str, start: &[u8]) -> String {
    let start = &start[..start.len().min(START)];
    match recognize(start) {
        Some(kind) => format!("no {format} file: it is {kind}"),
        None if start.is_empty() => format!("no {format} file: it is empty"),
        None => format!("no {format} file: it begins with \"{}\"", start[..start.len().min(16)].escape_ascii()),
    }
}
