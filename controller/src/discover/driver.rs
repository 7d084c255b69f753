//! Carries the discovery of all Configurations. In: their demand. Out: findings.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::findings::Findings;
use super::{Demand, DiscoveryState, Finding, LeftOut, Parts};
use crate::model::ConfigurationKey;

type Demands = BTreeMap<ConfigurationKey, Demand>;

pub(super) async fn run(
    _parts: Parts,
    mut demands: watch::Receiver<Arc<Demands>>,
    findings: Arc<Findings>,
    stop: CancellationToken,
) {
    loop {
        let wanted = Arc::clone(&demands.borrow_and_update());
        for key in wanted.keys() {
            let finding = Finding {
                state: DiscoveryState::NoHandler,
                stream: 0,
                devices: None,
                left_out: LeftOut::default(),
                servers: None,
            };
            findings.set(key, finding);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = demands.changed() => if changed.is_err() { return },
        }
    }
}
