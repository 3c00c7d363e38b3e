//! What changes from one run of a captured step to the next.
//!
//! A backend may record the kernels of a step, and run them again without the host code between them. That code also draws the
//! keys of random numbers, counts updates, looks up learning rates: numbers that kernels take as arguments, and that must be
//! others each time. So while a backend records, by [`record`], such code says how its numbers come about, by [`changing`]; the
//! kernels that take them read them from device memory, at the places that [`places`] gives; and before each replay
//! [`Changes::refresh`] runs that code again, without kernels, and tells the new numbers.
//!
//! Random numbers and the updates of optimizers are told in this way. To add others, wrap what launches the kernels in
//! [`changing`].

use crate::{Error, Result, Value, operators::random};
use smallvec::SmallVec;
use std::{cell::RefCell, collections::HashMap, fmt};

/// Host code that launches kernels with new numbers.
type Again = Box<dyn FnMut() -> Result<()> + Send>;

/// Host code that is run again, and the places of the numbers that its kernels take, in their order.
struct Task {
    again: Again,
    places: Vec<usize>,
}

/// What was told while a step was recorded.
#[derive(Default)]
pub struct Changes {
    tasks: Vec<Task>,
    /// All numbers that kernels read from device memory.
    numbers: Vec<Value>,
    /// Places of random keys.
    keys: HashMap<u64, usize>,
    /// The task whose kernels are launched now.
    current: Option<usize>,
}

/// What a thread does.
#[derive(Default)]
enum Mode {
    /// Kernels run.
    #[default]
    Ordinary,
    /// Kernels are recorded.
    Record(Changes),
    /// Kernels are left out, and the numbers that they would take collected.
    Collect(Vec<Value>),
}

thread_local! {
    static MODE: RefCell<Mode> = const { RefCell::new(Mode::Ordinary) };
}

/// Runs `step`, whose kernels the calling backend records, and gives what it told beside its result. Nothing is computed, so
/// the generator of random numbers stays where it was.
pub fn record<R>(step: impl FnOnce() -> R) -> (R, Changes) {
    let earlier = random::state();
    let restore = Restore(MODE.replace(Mode::Record(Changes::default())));
    let result = step();
    let changes = match MODE.take() {
        Mode::Record(changes) => changes,
        _ => Changes::default(),
    };
    drop(restore);
    random::set_state(earlier);
    (result, changes)
}

/// Puts a mode back, also when a step panics.
struct Restore(Mode);

impl Drop for Restore {
    fn drop(&mut self) {
        MODE.set(std::mem::take(&mut self.0));
    }
}

/// Whether this thread's kernels are recorded, and not run.
///
/// ```
/// assert!(!isograd::backend::replay::is_recording());
/// ```
pub fn is_recording() -> bool {
    MODE.with_borrow(|mode| matches!(mode, Mode::Record(_)))
}

/// Calls `now`, whose kernels take numbers that are others each time. While a step is recorded, `again` is kept: before each
/// replay it is called to launch the same kernels with the numbers of that time, on the thread that replays; its kernels are not
/// run. It does what else the host has to do each time, such as counting, which `now` leaves when [`is_recording`].
///
/// # Errors
/// Those of `now`.
pub fn changing<R>(again: impl FnOnce() -> Again, now: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(task) = MODE.with_borrow_mut(|mode| mode.outermost().map(|changes| changes.add(again()))) else {
        return now();
    };
    let result = now();
    MODE.with_borrow_mut(|mode| {
        if let Mode::Record(changes) = mode {
            debug_assert_eq!(changes.current, Some(task));
            changes.current = None;
        }
    });
    result
}

/// Tells of a random key that was drawn: kernels that take it take another each time.
pub(crate) fn drawn(key: u64) {
    MODE.with_borrow_mut(|mode| {
        let Some(changes) = mode.outermost() else { return };
        let again = || {
            collected(&[Value::I64(random::next_key() as i64)]);
            Ok(())
        };
        let task = changes.add(Box::new(again));
        let place = changes.place(Value::I64(key as i64), Some(task));
        changes.keys.insert(key, place);
        changes.current = None;
    });
}

/// Whether numbers are collected: then `scalars`, those of a kernel that is not to run, are.
pub(crate) fn collected(scalars: &[Value]) -> bool {
    MODE.with_borrow_mut(|mode| match mode {
        Mode::Collect(numbers) => {
            numbers.extend_from_slice(scalars);
            true
        }
        _ => false,
    })
}

/// For the kernel that is being recorded: where each of its `scalars` is among the numbers of [`Changes::refresh`]; `None` where
/// none of them changes.
pub fn places(scalars: &[Value]) -> Option<SmallVec<[usize; 8]>> {
    MODE.with_borrow_mut(|mode| {
        let Mode::Record(changes) = mode else { return None };
        if !changes.has(scalars) {
            return None;
        }
        let current = changes.current;
        let place = |v: &Value| match (current, changes.key(v)) {
            (None, Some(place)) => place,
            _ => changes.place(*v, current),
        };
        Some(scalars.iter().map(place).collect())
    })
}

/// Whether [`places`] would give places: for kernels that cannot read scalars from device memory.
pub fn are_changing(scalars: &[Value]) -> bool {
    MODE.with_borrow(|mode| matches!(mode, Mode::Record(changes) if changes.has(scalars)))
}

impl Mode {
    /// The changes that are recorded, outside of what is run again as a whole.
    fn outermost(&mut self) -> Option<&mut Changes> {
        match self {
            Mode::Record(changes) if changes.current.is_none() => Some(changes),
            _ => None,
        }
    }
}

impl Changes {
    /// The place of a random key.
    fn key(&self, value: &Value) -> Option<usize> {
        match value {
            Value::I64(key) => self.keys.get(&(*key as u64)).copied(),
            _ => None,
        }
    }

    /// Whether some of the scalars change.
    fn has(&self, scalars: &[Value]) -> bool {
        let inside = self.current.is_some() && !scalars.is_empty();
        inside || scalars.iter().any(|v| self.key(v).is_some())
    }

    /// A task, whose kernels are launched from now on.
    fn add(&mut self, again: Again) -> usize {
        self.tasks.push(Task { again, places: Vec::new() });
        self.current = Some(self.tasks.len() - 1);
        self.tasks.len() - 1
    }

    /// A place for a number, which a task gives anew.
    fn place(&mut self, number: Value, task: Option<usize>) -> usize {
        self.numbers.push(number);
        let place = self.numbers.len() - 1;
        if let Some(task) = task {
            self.tasks[task].places.push(place);
        }
        place
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// The numbers of the next replay, by place.
    ///
    /// # Errors
    /// Those of the code that is run again; [`Error::InvalidArgument`] when it launches other kernels than it did when it was
    /// recorded.
    pub fn refresh(&mut self) -> Result<&[Value]> {
        for task in &mut self.tasks {
            let restore = Restore(MODE.replace(Mode::Collect(Vec::new())));
            let done = (task.again)();
            let Mode::Collect(numbers) = MODE.take() else {
                unreachable!("the mode is put back by whoever changes it")
            };
            drop(restore);
            done?;
            let same = |(place, number): (&usize, &Value)| self.numbers[*place].dtype() == number.dtype();
            if task.places.len() != numbers.len() || !task.places.iter().zip(&numbers).all(same) {
                let why =
                    "what is run again before a replay launches other kernels than when it was captured; capture anew";
                return Err(Error::invalid("replay", why));
            }
            task.places.iter().zip(numbers).for_each(|(place, number)| self.numbers[*place] = number);
        }
        Ok(&self.numbers)
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes").field("tasks", &self.tasks.len()).field("numbers", &self.numbers).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    /// Stands for the launch of a kernel by a backend: where its scalars are.
    fn launched(scalars: &[Value]) -> Option<Vec<usize>> {
        if collected(scalars) {
            return None;
        }
        places(scalars).map(|p| p.to_vec())
    }

    #[test]
    fn keys_are_those_that_would_be_drawn_and_recording_draws_none() {
        random::seed(3);
        let ((first, again, other), mut changes) = record(|| {
            let key = Value::I64(random::next_key() as i64);
            // Forward, then backward, which draws the same numbers again; and something else.
            (launched(&[key, Value::F32(0.5)]), launched(&[key]), launched(&[Value::F32(2.0)]))
        });
        let (first, again) = (first.unwrap(), again.unwrap());
        assert_eq!((first[0], other), (again[0], None));
        assert_eq!(random::state(), (3, 0));
        for _ in 0..3 {
            let before = random::state();
            let expected = random::next_key() as i64;
            random::set_state(before);
            let numbers = changes.refresh().unwrap();
            assert_eq!(numbers[first[0]], Value::I64(expected));
            assert_eq!(numbers[first[1]], Value::F32(0.5));
            assert_eq!(random::state(), (3, before.1 + 1));
        }
    }

    #[test]
    fn what_is_told_runs_again_with_kernels_left_out() {
        let count = Arc::new(AtomicI64::new(0));
        let update = |n: i64| {
            // A key that is drawn within is part of it.
            let noise = Value::I64(random::next_key() as i64);
            [launched(&[Value::I64(n), noise]), launched(&[]), launched(&[Value::F64(n as f64)])]
        };
        let again = |count: Arc<AtomicI64>| -> Again {
            Box::new(move || {
                let all = update(count.fetch_add(1, Ordering::Relaxed) + 1);
                assert_eq!(all, [None, None, None]);
                Ok(())
            })
        };
        let (at, mut changes) = record(|| {
            assert!(is_recording());
            changing(|| again(count.clone()), || Ok(update(1))).unwrap()
        });
        assert!(!is_recording() && !changes.is_empty());
        for n in 1..4 {
            let numbers = changes.refresh().unwrap();
            let [Some(first), None, Some(last)] = &at else { panic!("{at:?}") };
            assert_eq!([numbers[first[0]], numbers[last[0]]], [Value::I64(n), Value::F64(n as f64)]);
        }
        // Elsewhere nothing is kept, and kernels run.
        assert_eq!(changing(|| unreachable!("not recording"), || Ok(update(1))).unwrap(), [None, None, None]);
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn other_kernels_than_before_are_an_error() {
        let mut more = false;
        let again = move || -> Result<()> {
            launched(&[Value::F32(1.0)]);
            if std::mem::replace(&mut more, true) {
                launched(&[Value::F32(1.0)]);
            }
            Ok(())
        };
        let now = || Ok(launched(&[Value::F32(1.0)]));
        let (_, mut changes) = record(|| changing(|| Box::new(again), now));
        changes.refresh().unwrap();
        assert!(changes.refresh().unwrap_err().to_string().contains("capture anew"));
    }

    #[test]
    fn a_step_that_panics_leaves_the_thread_as_it_was() {
        assert!(std::panic::catch_unwind(|| record(|| panic!("a step"))).is_err());
        assert!(!is_recording() && !collected(&[]));
    }
}
