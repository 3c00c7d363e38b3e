//! Faults that tests plant where the driver would report them.

use opencl3::error_codes::ClError;
use std::sync::Mutex;

/// Where a fault can sit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    Alloc,
    Launch,
    Wait,
    /// What became of a kernel that was started.
    Kernel,
}

/// Statuses to be reported, each so many times; and how many work items a driver that is short of registers allows.
#[derive(Default, Debug)]
pub(crate) struct Faults(Mutex<Vec<(Point, i32, usize)>>, Mutex<Option<usize>>);

impl Faults {
    /// The next `times` calls at `point` fail with `status`.
    pub fn plant(&self, point: Point, status: i32, times: usize) {
        self.0.lock().unwrap().push((point, status, times));
    }

    /// Kernels that are built from now on can have `most` work items in a group.
    pub fn limit_items(&self, most: usize) {
        *self.1.lock().unwrap() = Some(most);
    }

    pub fn most_items(&self) -> usize {
        self.1.lock().unwrap().unwrap_or(usize::MAX)
    }

    pub fn check(&self, point: Point) -> Result<(), ClError> {
        let mut planted = self.0.lock().unwrap();
        match planted.iter_mut().find(|(p, _, times)| *p == point && *times > 0) {
            Some((_, status, times)) => {
                *times -= 1;
                Err(ClError(*status))
            }
            None => Ok(()),
        }
    }
}
