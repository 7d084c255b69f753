//! What the process does with its store beside reading and writing messages. In: the store. Out: the devices
//! of earlier runs, readiness, the end of the process when the store fails.

use akri_mqtt_runtime::{Health, Shutdown};

use crate::devices::{Device, Devices, State};
use crate::store::{Status, Store, StoreError};

/// Ends with the reason when the store fails; closes it at the shutdown, once its readers have ended.
pub async fn watch_store(
    store: Store,
    health: Health,
    shutdown: Shutdown,
    readers_ended: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let condition = health.condition("store", "not open yet");
    let mut status = store.status();
    loop {
        match status.borrow_and_update().clone() {
            Status::Ready => condition.ready("open"),
            Status::Full(reason) => condition.not_ready(format!("the disk is full: {reason}")),
            Status::Failed(error) => return Err(error.into()),
            Status::Closed => return Ok(()),
        }
        tokio::select! {
            changed = status.changed() => changed?,
            () = shutdown.triggered() => {
                readers_ended.await;
                store.close().await;
                return Ok(());
            }
        }
    }
}

/// Devices of earlier runs stay readable: they are gone until they are added again.
pub async fn restore_devices(store: &Store, devices: &Devices) -> Result<(), StoreError> {
    for (id, record) in store.saved_devices().await? {
        match serde_json::from_str::<Device>(&record) {
            Ok(mut device) => {
                device.presence.server_connected = false;
                if device.presence.state != State::Offline {
                    device.presence.state = State::Offline;
                    device.presence.reason = "This process does not watch it any more.".to_owned();
                }
                devices.put(device);
            }
            Err(error) => tracing::warn!(device = id, %error, "a saved device cannot be read"),
        }
    }
    Ok(())
}
