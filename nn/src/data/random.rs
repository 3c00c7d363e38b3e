//! [`Generator`]: where the random numbers of loading come from.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The generator of shuffling, sampling and augmentation. The methods to draw with are those of `rand::RngExt`.
pub type Generator = ChaCha8Rng;

/// The generator of the order of epoch `epoch`.
pub(super) fn order(seed: u64, epoch: u64) -> Generator {
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    generator.set_stream(epoch);
    generator
}

/// The generator of sample `index`, drawn at `place` of epoch `epoch`: the four numbers are its key, so that it does not
/// matter which thread makes the sample, or when.
pub(super) fn sample(seed: u64, epoch: u64, place: u64, index: u64) -> Generator {
    let mut key = [0; 32];
    for (bytes, number) in key.chunks_exact_mut(8).zip([seed, epoch, place, index]) {
        bytes.copy_from_slice(&number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
