use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use coral_core::{Error, Result, SeededRng};
use serde::{Deserialize, Serialize};

/// The samples of one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchPlan {
    /// The samples of each batch.
    pub batches: Vec<Vec<usize>>,
    /// Gives each sample the seed of its augmentation.
    pub seed: u64,
}

/// How [`for_each_batch`] loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoaderConfig {
    /// Threads that load; 0 loads on the calling thread, one batch at a time.
    pub workers: usize,
    /// Batches that may lie ready, or be under way, besides the one in use.
    pub prefetch: usize,
}

impl BatchPlan {
    /// The batches of an epoch. The seeds of its samples come from other random numbers than those that are drawn from
    /// `seed` itself, such as the order.
    pub(crate) fn of_epoch(batches: Vec<Vec<usize>>, seed: u64) -> Self {
        const SAMPLES: u64 = u64::MAX - 1;
        Self { batches, seed: SeededRng::stream(seed, SAMPLES).bits() }
    }
}

impl LoaderConfig {
    /// Most threads, and most batches ahead.
    const LARGEST: usize = 1 << 10;

    /// Checks the ranges.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] naming the field.
    pub fn validate(&self) -> Result<()> {
        let fields = [("workers", self.workers), ("prefetch", self.prefetch)];
        match fields.into_iter().find(|(_, count)| *count > Self::LARGEST) {
            Some((name, count)) => Err(Error::parameter(name, format!("{count}; expected at most {}", Self::LARGEST))),
            None => Ok(()),
        }
    }
}

impl Default for LoaderConfig {
    fn default() -> Self {
        Self { workers: 2, prefetch: 2 }
    }
}

/// Loads the samples of `plan` with worker threads and hands batch after batch, in order, to `use_batch`.
///
/// `load(index, seed)` makes one sample; its seed depends on the plan's seed and the sample's place in the plan alone, so
/// that neither the number of workers nor their speed changes what is trained on. `use_batch` runs on the calling
/// thread. A thread of a rayon pool loads by itself, whatever the config says: it would keep the pool from what workers
/// ask of it while it waits for them. The first error, of `load` in the plan's order or of `use_batch`, ends the epoch:
/// workers finish the sample they are at and stop.
///
/// # Errors
/// Those of `load`, `use_batch` and [`LoaderConfig::validate`].
///
/// # Panics
/// When `load` or `use_batch` does, with the same payload.
///
/// # Examples
/// ```
/// use coral_models::{BatchPlan, LoaderConfig, for_each_batch};
/// let plan = BatchPlan { batches: vec![vec![4, 0], vec![2]], seed: 1 };
/// let mut seen = Vec::new();
/// for_each_batch(&plan, LoaderConfig::default(), &|index, _seed| Ok(10 * index), |batch| {
///     seen.push(batch);
///     Ok(())
/// })?;
/// assert_eq!(seen, [vec![40, 0], vec![20]]);
/// # Ok::<(), coral_core::Error>(())
/// ```
pub fn for_each_batch<T: Send>(
    plan: &BatchPlan,
    config: LoaderConfig,
    load: &(dyn Fn(usize, u64) -> Result<T> + Sync),
    mut use_batch: impl FnMut(Vec<T>) -> Result<()>,
) -> Result<()> {
    config.validate()?;
    let seed = |place: usize| SeededRng::stream(plan.seed, place as u64).bits();
    let order: Vec<usize> = plan.batches.iter().flatten().copied().collect();
    if config.workers == 0 || rayon::current_thread_index().is_some() {
        let mut place = 0;
        for batch in &plan.batches {
            let samples =
                batch.iter().enumerate().map(|(i, &index)| load(index, seed(place + i))).collect::<Result<_>>()?;
            place += batch.len();
            use_batch(samples)?;
        }
        return Ok(());
    }
    let queue = Queue::new(order.len());
    std::thread::scope(|scope| {
        // Also when `use_batch` fails or panics: the scope waits for the workers.
        let _stop = StopOnDrop(&queue);
        for _ in 0..config.workers.min(order.len()) {
            scope.spawn(|| {
                while let Some(place) = queue.next_place() {
                    let sample = catch_unwind(AssertUnwindSafe(|| load(order[place], seed(place))));
                    queue.put(place, sample);
                }
            });
        }
        let mut done = 0;
        for (number, batch) in plan.batches.iter().enumerate() {
            let ahead = plan.batches[number..].iter().take(config.prefetch.saturating_add(1)).map(Vec::len);
            queue.allow(done + ahead.sum::<usize>());
            let samples = (done..done + batch.len()).map(|place| match queue.take(place) {
                Ok(sample) => sample,
                Err(panic) => resume_unwind(panic),
            });
            let samples = samples.collect::<Result<Vec<T>>>()?;
            done += batch.len();
            use_batch(samples)?;
        }
        Ok(())
    })
}

/// A loaded sample, or what `load` panicked with.
type Loaded<T> = std::result::Result<Result<T>, Box<dyn Any + Send>>;

/// Places that workers take in order, and samples that come back in any order.
struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// The next place to load.
    next: usize,
    /// Places before this may be loaded.
    allowed: usize,
    /// Samples that are loaded and not taken.
    samples: Vec<Option<Loaded<T>>>,
    stopped: bool,
}

impl<T> Queue<T> {
    fn new(places: usize) -> Self {
        let samples = (0..places).map(|_| None).collect();
        Self { state: Mutex::new(State { next: 0, allowed: 0, samples, stopped: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that can panic runs while the lock is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The place to load next, once it may be; `None` when there is nothing left to do.
    fn next_place(&self) -> Option<usize> {
        let mut state = self.lock();
        while !state.stopped && state.next < state.samples.len() {
            if state.next < state.allowed {
                state.next += 1;
                return Some(state.next - 1);
            }
            state = self.wait(state);
        }
        None
    }

    fn allow(&self, places: usize) {
        self.lock().allowed = places;
        self.changed.notify_all();
    }

    fn put(&self, place: usize, sample: Loaded<T>) {
        self.lock().samples[place] = Some(sample);
        self.changed.notify_all();
    }

    /// Waits for the sample of a place that is allowed.
    fn take(&self, place: usize) -> Loaded<T> {
        let mut state = self.lock();
        loop {
            match state.samples[place].take() {
                Some(sample) => return sample,
                None => state = self.wait(state),
            }
        }
    }
}

/// Tells the workers to stop.
struct StopOnDrop<'a, T>(&'a Queue<T>);

impl<T> Drop for StopOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_indices;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn plan(len: usize, batch: usize) -> BatchPlan {
        BatchPlan { batches: batch_indices(len, batch, 3, false).unwrap(), seed: 11 }
    }

    #[test]
    fn workers_change_nothing() {
        let plan = plan(37, 4);
        let run = |workers, prefetch| {
            let mut seen = Vec::new();
            let load = |index: usize, seed: u64| {
                // Later samples are often ready first.
                std::thread::sleep(Duration::from_micros(seed % 500));
                Ok((index, seed))
            };
            let config = LoaderConfig { workers, prefetch };
            for_each_batch(&plan, config, &load, |batch| {
                seen.push(batch);
                Ok(())
            })
            .unwrap();
            seen
        };
        let alone = run(0, 0);
        let indices = |batch: &Vec<(usize, u64)>| batch.iter().map(|s| s.0).collect::<Vec<_>>();
        assert_eq!(alone.iter().map(indices).collect::<Vec<_>>(), plan.batches);
        let mut seeds: Vec<u64> = alone.concat().iter().map(|s| s.1).collect();
        seeds.sort_unstable();
        seeds.dedup();
        assert_eq!(seeds.len(), 37);
        for (workers, prefetch) in [(1, 0), (1, 3), (4, 0), (4, 2), (64, 1000)] {
            assert_eq!(run(workers, prefetch), alone, "{workers} workers, prefetch {prefetch}");
        }
    }

    #[test]
    fn threads_of_a_pool_do_not_wait_for_others() {
        // Waiting for workers that wait for the pool, all of its threads would wait for ever.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let seen = pool.install(|| {
            let caller = std::thread::current().id();
            let mut seen = Vec::new();
            let load = |index: usize, _| Ok((index, std::thread::current().id() == caller));
            for_each_batch(&plan(9, 4), LoaderConfig { workers: 2, prefetch: 1 }, &load, |batch| {
                seen.extend(batch);
                Ok(())
            })
            .unwrap();
            seen
        });
        assert!(seen.len() == 9 && seen.iter().all(|(_, by_caller)| *by_caller));
    }

    #[test]
    fn unusable_settings_are_named() {
        let many = LoaderConfig { workers: 1 << 20, prefetch: 2 };
        let error = for_each_batch(&plan(3, 2), many, &|index, _| Ok(index), |_| Ok(())).unwrap_err().to_string();
        assert_eq!(error, "invalid parameter `workers`: 1048576; expected at most 1024");
        assert!(serde_json::from_str::<LoaderConfig>(r#"{"worker": 3}"#).is_err());
    }

    #[test]
    fn samples_have_random_numbers_of_their_own() {
        let plan = BatchPlan::of_epoch(vec![vec![0], vec![1]], 5);
        let mut seeds = vec![];
        for_each_batch(&plan, LoaderConfig { workers: 0, prefetch: 0 }, &|_, seed| Ok(seed), |batch| {
            seeds.extend(batch);
            Ok(())
        })
        .unwrap();
        for stream in [0, 1, u64::MAX] {
            assert!(!seeds.contains(&SeededRng::stream(5, stream).bits()));
        }
    }

    #[test]
    fn loading_stays_a_few_batches_ahead() {
        let loaded = AtomicUsize::new(0);
        let load = |_, _| Ok(loaded.fetch_add(1, Ordering::SeqCst));
        let mut used = 0;
        for_each_batch(&plan(60, 4), LoaderConfig { workers: 3, prefetch: 2 }, &load, |batch| {
            std::thread::sleep(Duration::from_millis(2));
            assert!(loaded.load(Ordering::SeqCst) <= used + 3 * 4);
            used += batch.len();
            Ok(())
        })
        .unwrap();
        assert_eq!(used, 60);
    }

    #[test]
    fn the_first_error_in_order_ends_the_epoch() {
        let plan = plan(40, 4);
        let order = plan.batches.concat();
        for workers in [0, 1, 4] {
            let loaded = AtomicUsize::new(0);
            let load = |index: usize, _| {
                loaded.fetch_add(1, Ordering::SeqCst);
                let place = order.iter().position(|&i| i == index).unwrap();
                // The later of the two errors comes sooner.
                if place == 9 {
                    std::thread::sleep(Duration::from_millis(20));
                }
                if place == 9 || place == 11 { Err(Error::input("sample", format!("{place}"))) } else { Ok(place) }
            };
            let mut batches = 0;
            let config = LoaderConfig { workers, prefetch: 2 };
            let result = for_each_batch(&plan, config, &load, |_| {
                batches += 1;
                Ok(())
            });
            assert_eq!(result.unwrap_err().to_string(), "invalid input `sample`: 9");
            assert_eq!(batches, 2);
            assert!(loaded.load(Ordering::SeqCst) <= 20);
        }
    }

    #[test]
    fn workers_stop_when_a_batch_cannot_be_used() {
        for workers in [0, 1, 4] {
            let loaded = AtomicUsize::new(0);
            let load = |_, _| Ok(loaded.fetch_add(1, Ordering::SeqCst));
            let config = LoaderConfig { workers, prefetch: 1 };
            let result = for_each_batch(&plan(400, 4), config, &load, |_| Err(Error::input("batch", "no")));
            assert_eq!(result.unwrap_err().to_string(), "invalid input `batch`: no");
            assert!(loaded.load(Ordering::SeqCst) <= 8);
        }
    }

    #[test]
    fn panics_reach_the_caller() {
        let text = |payload: Box<dyn Any + Send>| payload.downcast_ref::<&str>().map(ToString::to_string);
        for workers in [0, 3] {
            let config = LoaderConfig { workers, prefetch: 2 };
            let run = |load: &(dyn Fn(usize, u64) -> Result<usize> + Sync), fails: bool| {
                let use_batch = |_| if fails { panic!("in use") } else { Ok(()) };
                catch_unwind(AssertUnwindSafe(|| for_each_batch(&plan(50, 4), config, load, use_batch))).unwrap_err()
            };
            let broken = |index: usize, _| if index == 17 { panic!("in loading") } else { Ok(index) };
            assert_eq!(text(run(&broken, false)).unwrap(), "in loading");
            assert_eq!(text(run(&|index, _| Ok(index), true)).unwrap(), "in use");
        }
    }

    #[test]
    fn nothing_to_load_is_no_error() {
        let none = BatchPlan { batches: Vec::new(), seed: 1 };
        for_each_batch(&none, LoaderConfig::default(), &|index, _| Ok(index), |_| Ok(())).unwrap();
        let empty = BatchPlan { batches: vec![vec![], vec![3]], seed: 1 };
        let mut sizes = Vec::new();
        for_each_batch(&empty, LoaderConfig::default(), &|index, _| Ok(index), |b| {
            sizes.push(b.len());
            Ok(())
        })
        .unwrap();
        assert_eq!(sizes, [0, 1]);
    }
}
