//! What the other handlers of this node serve, told through the state directory.
//! In: the requests that this process serves. Out: those that a living sibling serves and this process
//! does not. What follows from it is decided by `registration`.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use akri_mqtt_runtime::Shutdown;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::debug;

use crate::naming::DetailsDigest;
use crate::state_dir::StateDir;

const SUFFIX: &str = ".serving.json";
/// A file that was not written for three rounds belongs to a dead process.
const ROUNDS: u32 = 3;
/// Siblings that are looked at.
const MAX_SIBLINGS: usize = 64;

#[derive(Serialize, Deserialize)]
struct Serving {
    name: String,
    requests: BTreeSet<DetailsDigest>,
}

/// Tells siblings what this process serves, and reads what they do.
#[derive(Debug)]
pub struct Siblings {
    /// Where the files are.
    pub state: StateDir,
    /// Handler name: only siblings of the same name count.
    pub name: String,
    /// This instance.
    pub instance: String,
    /// Between two rounds.
    pub interval: Duration,
    /// What this process serves.
    pub serving: watch::Receiver<BTreeSet<DetailsDigest>>,
    /// What it does not and a sibling does.
    pub missing: watch::Sender<BTreeSet<DetailsDigest>>,
}

impl Siblings {
    /// Runs until the shutdown, then takes the file away.
    pub async fn run(mut self, shutdown: Shutdown) {
        let file = format!("{}{SUFFIX}", self.instance);
        let mut ticks = tokio::time::interval(self.interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.triggered() => break,
                _ = ticks.tick() => {}
                changed = self.serving.changed() => if changed.is_err() {
                    shutdown.triggered().await;
                    break;
                },
            }
            let requests = self.serving.borrow_and_update().clone();
            let missing = self.missing(&file, &requests);
            self.missing.send_if_modified(|known| {
                let changed = *known != missing;
                *known = missing;
                changed
            });
            self.tell(&file, requests);
        }
        self.state.remove(&file);
    }

    fn tell(&self, file: &str, requests: BTreeSet<DetailsDigest>) {
        let serving = Serving {
            name: self.name.clone(),
            requests,
        };
        let bytes = serde_json::to_vec(&serving).unwrap_or_default();
        if let Err(error) = self.state.replace_volatile(file, &bytes) {
            debug!(%error, "siblings cannot be told what is served here");
        }
    }

    fn missing(&self, own: &str, served: &BTreeSet<DetailsDigest>) -> BTreeSet<DetailsDigest> {
        let now = SystemTime::now();
        let fresh = |modified: SystemTime| {
            now.duration_since(modified).unwrap_or_default() < self.interval * ROUNDS
        };
        let files = self.state.list(SUFFIX).into_iter();
        files
            .filter(|(name, modified)| name != own && fresh(*modified))
            .take(MAX_SIBLINGS)
            .filter_map(|(name, _)| {
                serde_json::from_slice::<Serving>(&self.state.read(&name)?).ok()
            })
            .filter(|serving| serving.name == self.name)
            .flat_map(|serving| serving.requests)
            .filter(|request| !served.contains(request))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn siblings(state: &StateDir, instance: &str, serving: &[&str]) -> Siblings {
        let serving = serving
            .iter()
            .map(|details| DetailsDigest::of(details))
            .collect();
        Siblings {
            state: state.clone(),
            name: "mqtt".to_owned(),
            instance: instance.to_owned(),
            interval: Duration::from_millis(100),
            serving: watch::channel(serving).1,
            missing: watch::channel(BTreeSet::new()).0,
        }
    }

    #[test]
    fn what_only_the_sibling_serves_is_missing_here_until_its_file_is_stale() {
        let directory = tempfile::tempdir().unwrap();
        let state = StateDir::open(directory.path());
        let (a, b) = (
            siblings(&state, "n-0", &["x", "y"]),
            siblings(&state, "n-1", &["y"]),
        );
        a.tell("n-0.serving.json", a.serving.borrow().clone());
        let missing = b.missing("n-1.serving.json", &b.serving.borrow().clone());
        assert_eq!(missing, BTreeSet::from([DetailsDigest::of("x")]));
        let old = SystemTime::now() - Duration::from_secs(60);
        let file = std::fs::File::options()
            .write(true)
            .open(directory.path().join("n-0.serving.json"));
        file.unwrap().set_modified(old).unwrap();
        assert!(b.missing("n-1.serving.json", &BTreeSet::new()).is_empty());
    }
}
