//! What is known of one Edge Node. In: what its messages say. Out: records, which the convention judges by.

use std::collections::BTreeMap;

use super::order::Order;

/// An Edge Node.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Whether its NBIRTH came on this connection.
    pub born: bool,
    /// The number of its session, by that NBIRTH.
    pub bd_seq: Option<u64>,
    pub order: Order,
    pub devices: BTreeMap<String, Device>,
}

/// A device behind an Edge Node.
#[derive(Debug, Default)]
pub(super) struct Device {
    /// Whether its DBIRTH came since the node's last NBIRTH.
    pub born: bool,
    /// Whether its DDEATH did.
    pub dead: bool,
    /// Where the last of them belongs among the node's messages.
    pub at: u64,
}

impl Node {
    /// A connection begins: births were not kept for us, and the numbers of sessions and messages went on.
    pub fn unlearn(&mut self) {
        self.born = false;
        self.bd_seq = None;
        self.order = Order::default();
        for device in self.devices.values_mut() {
            device.born = false;
            device.at = 0;
        }
    }
}

impl Device {
    /// Whether a message was sent before what was heard last of the device; 0 stands for one of unknown place.
    pub fn is_superseded(&self, at: u64) -> bool {
        at > 0 && at < self.at
    }
}
