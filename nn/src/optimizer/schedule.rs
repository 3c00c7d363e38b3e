//! [`Schedule`]: learning rates that change as training goes on.

use super::{Optimizer, Step};
use crate::options;
use isograd_core::{Backend, DType, Result, Tensor};

/// By what the learning rate is multiplied at each update, which are counted from 1. The rules are MXNet's, told as shares
/// of the optimizer's learning rate.
///
/// ```
/// use isograd::nn::optimizer::{SGD, Schedule, Scheduled};
/// let schedule = Schedule::cosine(105).end(0.1).warm_up(5);
/// let rates: Vec<f64> = [1, 5, 55, 105, 200].iter().map(|&update| schedule.at(update)).collect();
/// assert_eq!(rates[..3].iter().map(|r| (r * 100.0).round()).collect::<Vec<_>>(), [20.0, 100.0, 55.0]);
/// assert!((rates[3] - 0.1).abs() < 1e-12 && rates[4] == rates[3]);
/// let optimizer = Scheduled::new(SGD::new(0.5), schedule);
/// let _ = optimizer;
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    rule: Rule,
    end: f64,
    warm_up: u64,
    begin: f64,
    steady: bool,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Factor { every: u64, factor: f64 },
    MultiFactor { after: Vec<u64>, factor: f64 },
    Poly { updates: u64, power: f64 },
    Cosine { updates: u64 },
}

impl Schedule {
    fn of(rule: Rule) -> Schedule {
        Schedule { rule, end: 0.0, warm_up: 0, begin: 0.0, steady: false }
    }

    /// Times `factor` after every `every` updates, down to what [`Schedule::end`] says.
    pub fn factor(every: u64, factor: f64) -> Schedule {
        Schedule::of(Rule::Factor { every, factor })
    }

    /// Times `factor` after each of the given numbers of updates.
    pub fn multi_factor(after: &[u64], factor: f64) -> Schedule {
        Schedule::of(Rule::MultiFactor { after: after.to_vec(), factor })
    }

    /// end + (1 - end) (1 - share of `updates` done)^power.
    pub fn poly(updates: u64, power: f64) -> Schedule {
        Schedule::of(Rule::Poly { updates, power })
    }

    /// Half a cosine wave, from 1 to the end (Loshchilov and Hutter, arXiv:1608.03983).
    pub fn cosine(updates: u64) -> Schedule {
        Schedule::of(Rule::Cosine { updates })
    }

    /// The least share of the learning rate; 0 by default.
    #[must_use]
    pub fn end(mut self, share: f64) -> Self {
        self.end = share;
        self
    }

    /// Rises evenly over the first `updates`; the falling part of `poly` and `cosine` is shortened by them.
    #[must_use]
    pub fn warm_up(mut self, updates: u64) -> Self {
        self.warm_up = updates;
        self
    }

    /// The share that the warm-up begins from; 0 by default.
    #[must_use]
    pub fn warm_up_from(mut self, share: f64) -> Self {
        self.begin = share;
        self
    }

    /// Stays at where the warm-up begins for as long as it lasts, rather than rising.
    #[must_use]
    pub fn warm_up_steady(mut self) -> Self {
        self.steady = true;
        self
    }

    fn check(&self) -> Result<()> {
        const OP: &str = "Schedule";
        options::not_negative(OP, "end", self.end)?;
        options::not_negative(OP, "warm_up_from", self.begin)?;
        match &self.rule {
            Rule::Factor { every, factor } => {
                options::at_least_one(OP, "every", *every)?;
                options::not_negative(OP, "factor", *factor)
            }
            Rule::MultiFactor { factor, .. } => options::not_negative(OP, "factor", *factor),
            Rule::Poly { updates, power } => {
                options::at_least_one(OP, "updates", *updates)?;
                options::not_negative(OP, "power", *power)
            }
            Rule::Cosine { updates } => options::at_least_one(OP, "updates", *updates),
        }
    }

    /// The share at `update`, counted from 1.
    pub fn at(&self, update: u64) -> f64 {
        if update < self.warm_up {
            if self.steady {
                return self.begin;
            }
            return self.begin + (1.0 - self.begin) * update as f64 / self.warm_up as f64;
        }
        // How much of the way down is done.
        let done = |updates: u64| {
            let all = updates.saturating_sub(self.warm_up).max(1);
            ((update - self.warm_up) as f64 / all as f64).min(1.0)
        };
        let fall = |share: f64| self.end + (1.0 - self.end) * share;
        let times = |factor: f64, count: u64| factor.powi(i32::try_from(count).unwrap_or(i32::MAX)).max(self.end);
        match &self.rule {
            Rule::Factor { every, factor } => times(*factor, update.saturating_sub(1) / (*every).max(1)),
            Rule::MultiFactor { after, factor } => times(*factor, after.iter().filter(|&&a| update > a).count() as u64),
            Rule::Poly { updates, power } => fall((1.0 - done(*updates)).powf(*power)),
            Rule::Cosine { updates } => fall((1.0 + (std::f64::consts::PI * done(*updates)).cos()) / 2.0),
        }
    }
}

/// An optimizer whose learning rate follows a [`Schedule`]. The place in the schedule is [`crate::Trainer::updates`], which the
/// trainer saves with its states.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled<O> {
    optimizer: O,
    schedule: Schedule,
}

impl<O> Scheduled<O> {
    /// `optimizer`, its learning rate times the schedule's share.
    pub fn new(optimizer: O, schedule: Schedule) -> Scheduled<O> {
        Scheduled { optimizer, schedule }
    }
}

impl<B: Backend, O: Optimizer<B>> Optimizer<B> for Scheduled<O> {
    /// The one that the schedule's shares are of.
    fn learning_rate(&self) -> f64 {
        self.optimizer.learning_rate()
    }

    fn set_learning_rate(&mut self, learning_rate: f64) {
        self.optimizer.set_learning_rate(learning_rate);
    }

    fn weight_decay(&self) -> f64 {
        self.optimizer.weight_decay()
    }

    fn check(&self) -> Result<()> {
        self.schedule.check()?;
        self.optimizer.check()
    }

    fn cast_state(&self, before: DType, weight: &Tensor<B>, state: Vec<Tensor<B>>) -> Result<Vec<Tensor<B>>> {
        self.optimizer.cast_state(before, weight, state)
    }

    fn new_state(&self, weight: &Tensor<B>) -> Result<Vec<Tensor<B>>> {
        self.optimizer.new_state(weight)
    }

    fn learning_rate_at(&self, update: u64) -> f64 {
        self.optimizer.learning_rate_at(update) * self.schedule.at(update)
    }

    /// That of the optimizer: the schedule keeps nothing.
    fn name(&self) -> String {
        self.optimizer.name()
    }

    fn update(&self, step: &Step, weight: &Tensor<B>, gradient: &Tensor<B>, state: &[Tensor<B>]) -> Result<()> {
        self.optimizer.update(step, weight, gradient, state)
    }
}
