//! Tasks that come and go while the process runs, but must not die by themselves.
//! In: futures. Out: the end of the process, with a reason, when one of them panics: a request
//! whose task is gone would keep its stream open and never say anything again.

use std::borrow::Cow;

use akri_mqtt_runtime::Tasks;
use tokio::sync::mpsc;

/// The first death stops the process; more than a few at once add nothing.
const CAPACITY: usize = 4;

/// Spawns tasks into a set whose process stops when one of them panics.
#[derive(Clone, Debug)]
pub struct Vital {
    tasks: Tasks,
    deaths: mpsc::Sender<String>,
}

impl Vital {
    /// Adds the task that watches over the others.
    #[must_use]
    pub fn new(tasks: &Tasks) -> Self {
        let (deaths, mut reports) = mpsc::channel::<String>(CAPACITY);
        let shutdown = tasks.shutdown().clone();
        tasks.critical("watch over requests and sessions", async move {
            tokio::select! {
                () = shutdown.triggered() => Ok(()),
                Some(name) = reports.recv() => anyhow::bail!("the task {name:?} has died"),
            }
        });
        Self {
            tasks: tasks.clone(),
            deaths,
        }
    }

    /// Spawns a task that may end, but not by a panic.
    pub fn spawn<F>(&self, name: String, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let guard = Guard {
            name: name.clone(),
            deaths: Some(self.deaths.clone()),
        };
        self.tasks.spawn(Cow::Owned(name), async move {
            future.await;
            guard.disarm();
            Ok(())
        });
    }
}

struct Guard {
    name: String,
    deaths: Option<mpsc::Sender<String>>,
}

impl Guard {
    fn disarm(mut self) {
        self.deaths = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(deaths) = self.deaths.take() {
            // A full queue already holds a reason to stop.
            let _ = deaths.try_send(std::mem::take(&mut self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use akri_mqtt_runtime::Shutdown;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_stops_the_process_with_its_name_and_one_that_ends_does_not() {
        let tasks = Tasks::new(Shutdown::new());
        let vital = Vital::new(&tasks);
        vital.spawn("short".to_owned(), async {});
        vital.spawn("request 1a2b3c4d".to_owned(), async { panic!("broken") });
        let error = tasks.join().await.unwrap_err();
        assert!(
            format!("{error:#}").contains("request 1a2b3c4d"),
            "{error:#}"
        );
    }
}
