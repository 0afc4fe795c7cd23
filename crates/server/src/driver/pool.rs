//! Threads for work that may wait for the disk or take long. The work of each kind that may be
//! under way at once is bounded by the number of threads that take it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;

use super::sleepers::Sleepers;
use super::stage::lock;

/// A piece of work.
pub type Work = Box<dyn FnOnce() + Send>;

/// A queue of work with its threads.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    queue: Mutex<VecDeque<Work>>,
    sleepers: Sleepers,
}

impl Pool {
    /// Starts the threads.
    pub fn start(name: &str, threads: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(VecDeque::new()),
            sleepers: Sleepers::default(),
        });
        for _ in 0..threads {
            let shared = shared.clone();
            thread::Builder::new().name(name.to_string()).spawn(move || {
                loop {
                    let work = lock(&shared.queue).pop_front();
                    if let Some(work) = work {
                        work();
                    } else if !shared.sleepers.sleep_unless(|| !lock(&shared.queue).is_empty()) {
                        return;
                    }
                }
            })?;
        }
        Ok(Pool { shared })
    }

    /// Puts work into the queue.
    pub fn run(&self, work: Work) {
        lock(&self.shared.queue).push_back(work);
        self.shared.sleepers.wake_one();
    }

    /// Ends the threads when all work is done.
    pub fn close(&self) {
        self.shared.sleepers.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn all_work_is_done_by_any_number_of_threads() {
        for threads in [1, 3] {
            let pool = Pool::start("test", threads).unwrap();
            let (done, wait) = mpsc::channel();
            for number in 0..500u32 {
                let done = done.clone();
                pool.run(Box::new(move || done.send(number).unwrap()));
            }
            drop(done);
            let mut seen: Vec<u32> = wait.iter().take(500).collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..500).collect::<Vec<u32>>());
            pool.close();
        }
    }
}
