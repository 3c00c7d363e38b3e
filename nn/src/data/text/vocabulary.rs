//! [`Vocabulary`]: tokens and their numbers.

use super::Counter;
use isograd_core::{Error, Result};
use std::{borrow::Borrow, collections::HashMap};

/// Tokens and their numbers: the unknown token first, then reserved ones, then those of a text, the most frequent first, and
/// those that are equally frequent in alphabetical order. As in Gluon, whose defaults these are.
///
/// ```
/// use isograd::nn::data::text::{Counter, Vocabulary, words};
/// let counter = Counter::of(words("to be or not to be to"));
/// let vocabulary = Vocabulary::with(&counter, Vocabulary::options().min_freq(2).reserved(&["<pad>"]))?;
/// assert_eq!(vocabulary.tokens(), ["<unk>", "<pad>", "to", "be"]);
/// assert_eq!(vocabulary.to_indices(&["be", "or", "<pad>"])?, [3, 0, 1]);
/// # Ok::<(), isograd::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    tokens: Vec<String>,
    indices: HashMap<String, i64>,
    unknown: Option<i64>,
}

/// What [`Vocabulary::with`] takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VocabularyOptions {
    min_freq: usize,
    most_freq: usize,
    unknown: String,
    reserved: Vec<String>,
}

impl VocabularyOptions {
    /// Tokens that occur less often are unknown (1).
    #[must_use]
    pub fn min_freq(mut self, count: usize) -> Self {
        self.min_freq = count;
        self
    }

    /// No more than the `count` most frequent tokens, not counting the unknown one and the reserved ones (all).
    #[must_use]
    pub fn most_freq(mut self, count: usize) -> Self {
        self.most_freq = count;
        self
    }

    /// The token that stands for all that are not known (`<unk>`).
    #[must_use]
    pub fn unknown(mut self, token: &str) -> Self {
        self.unknown = token.into();
        self
    }

    /// Tokens that are always there, such as `<pad>`, `<bos>` and `<eos>`.
    #[must_use]
    pub fn reserved(mut self, tokens: &[&str]) -> Self {
        self.reserved = tokens.iter().map(|&t| t.into()).collect();
        self
    }
}

impl Vocabulary {
    /// All tokens that were counted.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the unknown token is one of them too.
    pub fn new<T: Ord + Borrow<str>>(counter: &Counter<T>) -> Result<Self> {
        Vocabulary::with(counter, Vocabulary::options())
    }

    /// What [`Vocabulary::with`] takes: everything, `<unk>`, nothing reserved.
    pub fn options() -> VocabularyOptions {
        VocabularyOptions { min_freq: 1, most_freq: usize::MAX, unknown: "<unk>".into(), reserved: Vec::new() }
    }

    /// The tokens that were counted, as `options` say.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when a reserved token is named twice, or is the unknown one.
    pub fn with<T: Ord + Borrow<str>>(counter: &Counter<T>, options: VocabularyOptions) -> Result<Self> {
        let VocabularyOptions { min_freq, most_freq, unknown, reserved } = options;
        let mut tokens = vec![unknown];
        tokens.extend(reserved);
        let special = tokens.len();
        let by_text = {
            let mut counted = counter.most_common(usize::MAX);
            // The order of T may be another than that of its text.
            counted.sort_by(|(a, m), (b, n)| n.cmp(m).then_with(|| (*a).borrow().cmp((*b).borrow())));
            counted
        };
        let wanted = by_text.iter().filter(|(token, count)| {
            *count >= min_freq && !tokens[..special].iter().any(|t| t == Borrow::<str>::borrow(*token))
        });
        let found: Vec<String> =
            wanted.take(most_freq).map(|(token, _)| Borrow::<str>::borrow(*token).to_string()).collect();
        tokens.extend(found);
        let mut vocabulary = Vocabulary::of_tokens(tokens)?;
        vocabulary.unknown = Some(0);
        Ok(vocabulary)
    }

    /// `tokens` in their order, and no unknown one.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when one is there twice.
    pub fn of_tokens<T: Into<String>>(tokens: impl IntoIterator<Item = T>) -> Result<Self> {
        let tokens: Vec<String> = tokens.into_iter().map(Into::into).collect();
        let mut indices = HashMap::with_capacity(tokens.len());
        for (token, index) in tokens.iter().zip(0..) {
            if indices.insert(token.clone(), index).is_some() {
                return Err(Error::invalid("Vocabulary", format!("the token {token:?} is there twice")));
            }
        }
        Ok(Vocabulary { tokens, indices, unknown: None })
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The tokens, in the order of their numbers.
    pub fn tokens(&self) -> &[String] {
        &self.tokens
    }

    /// The number of the unknown token.
    pub fn unknown(&self) -> Option<i64> {
        self.unknown
    }

    /// The number of `token`; that of the unknown token for one that is not known.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a token that is not known where there is no unknown one.
    pub fn index(&self, token: &str) -> Result<i64> {
        let missing =
            || Error::invalid("Vocabulary", format!("the token {token:?} is not known, and there is no unknown token"));
        self.indices.get(token).copied().or(self.unknown).ok_or_else(missing)
    }

    /// The numbers of `tokens`.
    ///
    /// # Errors
    /// As [`Vocabulary::index`].
    pub fn to_indices<T: AsRef<str>>(&self, tokens: &[T]) -> Result<Vec<i64>> {
        tokens.iter().map(|token| self.index(token.as_ref())).collect()
    }

    /// The tokens that have these numbers.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number that no token has.
    pub fn to_tokens(&self, indices: &[i64]) -> Result<Vec<&str>> {
        let token = |&index: &i64| {
            let found = usize::try_from(index).ok().and_then(|i| self.tokens.get(i));
            let missing =
                || Error::invalid("Vocabulary", format!("no token has the number {index}; there are {}", self.len()));
            found.map(String::as_str).ok_or_else(missing)
        };
        indices.iter().map(token).collect()
    }
}
