//! Text: tokens, how often they occur, their numbers, and sequences of those for language models.
//!
//! ```
//! use isograd::nn::data::text::{Counter, Vocabulary, normalize, words};
//! let text = normalize("The Time Machine, by H. G. Wells");
//! assert_eq!(text, "the time machine by h g wells");
//! let vocabulary = Vocabulary::new(&Counter::of(words(&text)))?;
//! assert_eq!(vocabulary.to_tokens(&vocabulary.to_indices(&["time", "travel"])?)?, ["time", "<unk>"]);
//! # Ok::<(), isograd::Error>(())
//! ```

mod counter;
mod sequence;
mod vocabulary;

pub use counter::{Counter, ngrams};
pub use sequence::{Sampling, SequenceBatches, SequenceLoader};
pub use vocabulary::{Vocabulary, VocabularyOptions};

/// The letters of `text` in lower case, everything else between them as one space: how the book prepares its texts.
pub fn normalize(text: &str) -> String {
    let letters = text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty());
    letters.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The words of `text`: what stands between white space.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(String::from).collect()
}

/// The characters of `text`.
pub fn chars(text: &str) -> Vec<String> {
    text.chars().map(String::from).collect()
}
