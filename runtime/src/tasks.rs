//! Supervised tasks: each has a name, an owner, a way to stop and a joined result.
//! In: futures. Out: why the process stopped. A critical task that ends before the shutdown, by
//! itself, with an error or by a panic, stops the process; any other one's failure is logged.

use std::any::Any;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::shutdown::Shutdown;

/// How long tasks may take to stop after the shutdown. Processes promise 5 s in all; the rest is
/// for what `run` does after its tasks.
pub const JOIN_WITHIN: Duration = Duration::from_millis(4_500);

/// The tasks of a process or of a part of it; clones spawn into the same set.
#[derive(Clone, Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    tracker: TaskTracker,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    running: BTreeMap<u64, Running>,
    failure: Option<anyhow::Error>,
}

#[derive(Debug)]
struct Running {
    name: Cow<'static, str>,
    abort: Option<AbortHandle>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Critical,
    Normal,
}

impl Tasks {
    /// A set of tasks that stops with `shutdown`, and that triggers it when a critical task dies.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self {
            shutdown,
            tracker: TaskTracker::new(),
            inner: Arc::default(),
        }
    }

    /// What the tasks are to watch.
    #[must_use]
    pub fn shutdown(&self) -> &Shutdown {
        &self.shutdown
    }

    /// Spawns a task without which the process makes no sense. Its end before the shutdown, even
    /// with `Ok`, triggers the shutdown and becomes the error of [`Tasks::join`].
    pub fn critical<F>(&self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.start(name.into(), Kind::Critical, future);
    }

    /// Spawns a task that may end. Its error or panic is logged with its name.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.start(name.into(), Kind::Normal, future);
    }

    /// Waits for the shutdown, then joins all tasks within [`JOIN_WITHIN`]; those that are late
    /// are cancelled and named in the log.
    ///
    /// # Errors
    /// The reason why the first critical task ended.
    pub async fn join(self) -> anyhow::Result<()> {
        self.join_within(JOIN_WITHIN).await
    }

    /// As [`Tasks::join`], with another deadline.
    ///
    /// # Errors
    /// The reason why the first critical task ended.
    pub async fn join_within(self, limit: Duration) -> anyhow::Result<()> {
        self.shutdown.triggered().await;
        self.tracker.close();
        if timeout(limit, self.tracker.wait()).await.is_err() {
            self.cancel_late(limit);
            // A cancelled task ends at its next await; one that blocks its thread does not.
            let _ = timeout(Duration::from_millis(100), self.tracker.wait()).await;
        }
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    /// The names of the running tasks, sorted.
    #[must_use]
    pub fn running(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .lock()
            .running
            .values()
            .map(|task| task.name.clone().into_owned())
            .collect();
        names.sort_unstable();
        names
    }

    fn start<F>(&self, name: Cow<'static, str>, kind: Kind, future: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let id = self.enter(name.clone());
        let tasks = self.clone();
        let task = self.tracker.spawn(async move {
            let result = AssertUnwindSafe(future)
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", panic_text(&*panic))));
            tasks.ended(id, &name, kind, result);
        });
        // The task may be over already; then there is nothing left to abort.
        if let Some(running) = self.lock().running.get_mut(&id) {
            running.abort = Some(task.abort_handle());
        }
    }

    fn enter(&self, name: Cow<'static, str>) -> u64 {
        let mut inner = self.lock();
        let id = inner.next;
        inner.next = id.wrapping_add(1);
        inner.running.insert(id, Running { name, abort: None });
        id
    }

    fn ended(&self, id: u64, name: &str, kind: Kind, result: anyhow::Result<()>) {
        self.lock().running.remove(&id);
        match (kind, result) {
            (Kind::Critical, result) if !self.shutdown.is_triggered() => {
                let reason = match result {
                    Ok(()) => anyhow::anyhow!("task {name} ended although nothing asked it to"),
                    Err(error) => error.context(format!("task {name} failed")),
                };
                tracing::error!(
                    task = name,
                    error = format!("{reason:#}"),
                    "critical task ended, stopping"
                );
                self.lock().failure.get_or_insert(reason);
                self.shutdown.trigger();
            }
            (_, Err(error)) => {
                tracing::warn!(task = name, error = format!("{error:#}"), "task failed");
            }
            (_, Ok(())) => tracing::debug!(task = name, "task ended"),
        }
    }

    fn cancel_late(&self, limit: Duration) {
        let late = self.running().join(", ");
        tracing::warn!(
            tasks = late,
            ?limit,
            "tasks did not stop in time and are cancelled"
        );
        for task in self.lock().running.values() {
            if let Some(abort) = &task.abort {
                abort.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is no text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tasks() -> Tasks {
        Tasks::new(Shutdown::new())
    }

    #[tokio::test]
    async fn critical_task_that_fails_stops_the_process_with_its_reason() {
        let tasks = tasks();
        let other = tasks.shutdown().clone();
        tasks.critical("waits", async move {
            other.triggered().await;
            Ok(())
        });
        tasks.critical("ingest", async { Err(anyhow::anyhow!("disk full")) });
        let error = tasks.join().await.unwrap_err();
        assert_eq!(format!("{error:#}"), "task ingest failed: disk full");
    }

    #[tokio::test]
    async fn critical_task_that_panics_stops_the_process_with_its_reason() {
        let tasks = tasks();
        tasks.critical("ingest", async { panic!("index {}", 7) });
        let error = tasks.join().await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "task ingest failed: panicked: index 7"
        );
    }

    #[tokio::test]
    async fn critical_task_may_not_end_by_itself() {
        let tasks = tasks();
        tasks.critical("api", async { Ok(()) });
        let error = tasks.join().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "task api ended although nothing asked it to"
        );
    }

    #[tokio::test]
    async fn other_task_may_fail_or_end() {
        let tasks = tasks();
        tasks.spawn("one", async { Err(anyhow::anyhow!("no")) });
        tasks.spawn("two", async { panic!("no") });
        tasks.spawn("three", async { Ok(()) });
        while !tasks.running().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!tasks.shutdown().is_triggered());
        tasks.shutdown().trigger();
        tasks.join().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn late_task_is_cancelled_at_the_deadline() {
        let tasks = tasks();
        tasks.critical("stuck", std::future::pending());
        assert_eq!(tasks.running(), ["stuck"]);
        let start = tokio::time::Instant::now();
        tasks.shutdown().trigger();
        tasks.clone().join().await.unwrap();
        assert_eq!(start.elapsed(), JOIN_WITHIN);
    }

    #[tokio::test]
    async fn error_after_the_shutdown_is_not_the_reason() {
        let tasks = tasks();
        let shutdown = tasks.shutdown().clone();
        tasks.critical("api", async move {
            shutdown.triggered().await;
            Err(anyhow::anyhow!("connection reset"))
        });
        tasks.shutdown().trigger();
        tasks.join().await.unwrap();
    }
}
