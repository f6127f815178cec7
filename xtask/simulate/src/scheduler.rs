//! Which thread goes on next: decided by a seed alone.

use shuttle::scheduler::{Schedule, Scheduler, Task, TaskId};

/// Goes on with the same thread for a while, how long depending on the seed, and then with any other: runs with few switches find
/// other faults than runs with many. One execution.
pub(crate) struct Seeded {
    rng: fastrand::Rng,
    /// Apart, so that what is drawn does not depend on how threads are chosen.
    data: fastrand::Rng,
    /// Of so many points, one is a switch.
    stay: u32,
    begun: bool,
}

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let data = rng.fork();
        let stay = [1, 2, 8, 40, 200][rng.usize(..5)];
        Seeded { rng, data, stay, begun: false }
    }
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let first = !std::mem::replace(&mut self.begun, true);
        first.then(|| Schedule::new(0))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let stays = !is_yielding && self.rng.u32(..self.stay) > 0;
        if stays
            && let Some(current) = current.filter(|current| runnable.iter().any(|task| task.id() == *current))
        {
            return Some(current);
        }
        let others = |task: &&&Task| !is_yielding || Some(task.id()) != current;
        let count = runnable.iter().filter(others).count();
        if count == 0 {
            return runnable.first().map(|task| task.id());
        }
        runnable.iter().filter(others).nth(self.rng.usize(..count)).map(|task| task.id())
    }

    fn next_u64(&mut self) -> u64 {
        self.data.u64(..)
    }
}
