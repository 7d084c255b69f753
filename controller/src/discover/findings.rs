//! The newest finding of each Configuration, and whose has changed. In: findings of the driver.
//! Out: copies for whoever asks. Nothing is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Finding;
use crate::model::ConfigurationKey;

/// Shared between the driver, which writes, and the discovery's owner, who reads.
#[derive(Default)]
pub(super) struct Findings {
    inner: Mutex<Inner>,
    told: Notify,
}

#[derive(Default)]
struct Inner {
    by_key: BTreeMap<ConfigurationKey, Finding>,
    /// At most one entry for each Configuration that there is or was since the last question.
    changed: BTreeSet<ConfigurationKey>,
}

impl Findings {
    pub(super) fn get(&self, key: &ConfigurationKey) -> Option<Finding> {
        self.lock().by_key.get(key).cloned()
    }

    /// Keeps a finding, and says so unless it is the one that is known.
    pub(super) fn set(&self, key: &ConfigurationKey, finding: Finding) {
        let mut inner = self.lock();
        if inner.by_key.get(key) == Some(&finding) {
            return;
        }
        inner.by_key.insert(key.clone(), finding);
        inner.changed.insert(key.clone());
        drop(inner);
        self.told.notify_one();
    }

    pub(super) fn forget(&self, key: &ConfigurationKey) {
        let mut inner = self.lock();
        if inner.by_key.remove(key).is_some() {
            inner.changed.insert(key.clone());
            drop(inner);
            self.told.notify_one();
        }
    }

    pub(super) async fn changed(&self) -> BTreeSet<ConfigurationKey> {
        loop {
            let changed = std::mem::take(&mut self.lock().changed);
            if !changed.is_empty() {
                return changed;
            }
            self.told.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
