//! Trains a character language model with gated recurrent units on a short story, and lets it write:
//!
//! ```text
//! cargo run --release --example char_rnn -- --device cpu --prefix "the boy "
//! ```
//!
//! It shows a progress bar and prints perplexity and text as it learns. It ends when the perplexity over an epoch is below
//! `--target`, and fails if that does not happen within `--epochs` epochs. A perplexity of 28 is guessing; at 2 the model
//! wavers between two characters on average.

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use isograd::{
    nn::data::text::{Counter, Sampling, SequenceLoader, Vocabulary, chars, normalize},
    prelude::*,
};
use std::{path::PathBuf, time::Instant};

#[derive(Parser)]
#[command(about = "Trains a character language model, and lets it write")]
struct Options {
    /// Device to run on.
    #[arg(long, env = "ISOGRAD_DEVICE", default_value = "cpu")]
    device: String,
    /// Passes over the text, at most.
    #[arg(long, default_value_t = 120)]
    epochs: usize,
    /// Ends when the perplexity over an epoch is below this.
    #[arg(long, default_value_t = 2.0)]
    target: f64,
    /// Seed of the weights and of where the text is cut.
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// Sequences per step.
    #[arg(long, default_value_t = 16)]
    batch_size: usize,
    /// Characters per sequence.
    #[arg(long, default_value_t = 32)]
    steps: usize,
    /// Hidden units.
    #[arg(long, default_value_t = 192)]
    hidden: usize,
    /// Learning rate.
    #[arg(long, default_value_t = 0.005)]
    learning_rate: f64,
    /// What the written text begins with.
    #[arg(long, default_value = "the keeper ")]
    prefix: String,
    /// The text to learn.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/data/text/keeper.txt"))]
    text: PathBuf,
}

/// Recurrent units over one-hot characters, and scores of the next character from each of their outputs.
#[derive(Parameters)]
struct Model {
    recurrent: GRU,
    output: Dense,
    characters: usize,
}

impl Model {
    fn new(characters: usize, hidden: usize) -> Self {
        Model { recurrent: GRU::new(hidden), output: Dense::new(characters).flatten(false), characters }
    }

    /// Scores `[steps, batch, characters]` after characters `[batch, steps]`, and the new states.
    fn step(&self, x: &Tensor, states: &[Tensor]) -> Result<(Tensor, Vec<Tensor>)> {
        let steps = x.transpose(&[1, 0])?.one_hot(self.characters, 1.0, 0.0, DType::F32)?;
        let (y, states) = self.recurrent.forward_with(&steps, states)?;
        Ok((self.output.forward(&y)?, states))
    }

    /// `count` characters that follow `prefix`, each the most likely one.
    fn write(&self, prefix: &str, count: usize, vocabulary: &Vocabulary, ctx: &Dyn) -> Result<String> {
        let mut written = vocabulary.to_indices(&chars(&normalize(prefix)))?;
        let start = written.len();
        let mut states = self.recurrent.begin_state(ctx, 1)?;
        let mut next = written.clone();
        while written.len() < start + count {
            let x = Tensor::from_slice(ctx, &next, [1, next.len()])?;
            let (scores, new) = self.step(&x, &states)?;
            states = new;
            let best = scores.select(0, -1)?.argmax(-1, false)?.to_vec::<i64>()?;
            written.push(best[0]);
            next = best;
        }
        Ok(vocabulary.to_tokens(&written)?.concat())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let ctx = device(&options.device)?;
    seed(options.seed);

    let text = normalize(&std::fs::read_to_string(&options.text)?);
    let tokens = chars(&text);
    let vocabulary = Vocabulary::new(&Counter::of(tokens.iter().map(String::as_str)))?;
    let corpus = vocabulary.to_indices(&tokens)?;
    println!("{} characters, {} different ones, on {}", corpus.len(), vocabulary.len(), options.device);
    let loader = SequenceLoader::new(corpus, options.batch_size, options.steps)?;
    let loader = loader.sampling(Sampling::Consecutive).seed(options.seed);

    let model = Model::new(vocabulary.len(), options.hidden);
    model.initialize(Xavier::default(), &ctx)?;
    let parameters = model.collect_params();
    let mut trainer = Trainer::new(parameters.clone(), Adam::new(options.learning_rate))?;
    let criterion = SoftmaxCrossEntropyLoss::default();

    let begin = Instant::now();
    let bar = ProgressBar::new(options.epochs as u64);
    bar.set_style(ProgressStyle::with_template("{bar:40} epoch {pos} of at most {len}, {msg}")?);
    let mut perplexity = f64::INFINITY;
    for epoch in 1..=options.epochs {
        let (mut total, mut seen) = (0.0, 0);
        let mut states = model.recurrent.begin_state(&ctx, options.batch_size)?;
        for batch in loader.epoch(&ctx) {
            let (x, y) = batch?;
            // The state goes on from batch to batch; its gradient does not.
            states = states.iter().map(Tensor::detach).collect();
            let (loss, new) = autograd::try_record(|| {
                let (scores, new) = model.step(&x, &states)?;
                let labels = y.transpose(&[1, 0])?.reshape([-1])?;
                let scores = scores.reshape([-1, vocabulary.len() as isize])?;
                Ok((criterion.loss(&scores, &labels)?.mean((), false)?, new))
            })?;
            states = new;
            loss.backward()?;
            clip_global_norm(&parameters, 1.0)?;
            trainer.step(1)?;
            total += loss.asscalar::<f64>()? * y.size() as f64;
            seen += y.size();
        }
        perplexity = (total / seen as f64).exp();
        bar.set_message(format!("perplexity {perplexity:.3}"));
        bar.inc(1);
        let reached = perplexity < options.target;
        if epoch % 10 == 0 || reached {
            let written = model.write(&options.prefix, 60, &vocabulary, &ctx)?;
            bar.suspend(|| println!("epoch {epoch:3}: perplexity {perplexity:.4}: {written}"));
        }
        if reached {
            break;
        }
    }
    bar.finish_and_clear();
    println!("trained in {:.1} s", begin.elapsed().as_secs_f64());
    println!("{}", model.write(&options.prefix, 300, &vocabulary, &ctx)?);
    if perplexity.is_nan() || perplexity >= options.target {
        let why = format!("the perplexity is {perplexity:.4}, not below {}", options.target);
        return Err(Error::invalid("char_rnn", why).into());
    }
    println!("perplexity: {perplexity:.4}");
    Ok(())
}
