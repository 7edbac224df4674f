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
    ///
    /// The job has a task of its own: who waits for it may stop looking, as an answer does whose reader is slow,
    /// without keeping the place from others.
    pub async fn run<T, F>(&self, job: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let places = Arc::clone(&self.places);
        let running = tokio::spawn(async move {
            let _place = places
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            tokio::task::spawn_blocking(job).await.expect("jobs do not panic")
        });
        running.await.expect("jobs do not panic")
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[tokio::test]
    async fn whoever_stops_looking_keeps_no_place_from_others() {
        let pool = Pool::new();
        let places = std::thread::available_parallelism().map_or(2, usize::from);
        let mut forgotten: Vec<_> = (0..4 * places).map(|_| Box::pin(pool.run(|| ()))).collect();
        for job in &mut forgotten {
            let polled = pin!(job).poll(&mut Context::from_waker(Waker::noop()));
            assert!(matches!(polled, Poll::Pending));
        }
        assert_eq!(pool.run(|| 7).await, 7);
    }
}
