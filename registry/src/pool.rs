//! A bounded pool for work on the processor (hashing, decoding), so that it never runs on the async threads
//! and never queues without end.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// At most as many jobs at once as there are processors. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Pool {
    places: Arc<Semaphore>,
}

impl Pool {
    /// Makes a pool with one place for each processor.
    #[must_use]
    pub fn new() -> Self {
        let places = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            places: Arc::new(Semaphore::new(places)),
        }
    }

    /// Runs a job and returns what it returns. Callers wait in order while all places are taken.
    pub async fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let _place = self
            .places
            .acquire()
            .await
            .expect("the semaphore is never closed");
        tokio::task::spawn_blocking(job).await.expect("jobs do not panic")
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}
