//! What conventions ask of their devices on the MQTT server, such as a rebirth of an Edge Node, without which its
//! metrics have no names. In: messages of the devices' machines. Out: PUBLISH packets, a bounded number at a time.

use std::sync::Arc;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_core::presence::{Inbound, Outgoing};
use akri_mqtt_session::{Handle, Publish, QoS};
use tokio::task::JoinSet;

use super::task::Task;
use crate::metrics::IngestMetrics;

/// Messages that are on their way to the server at most; further ones are counted and not sent.
const IN_FLIGHT: usize = 64;

/// The messages that are on their way; they end with the session.
#[derive(Default)]
pub(super) struct Asking(JoinSet<()>);

impl Asking {
    fn send(&mut self, handle: &Arc<Handle>, metrics: &IngestMetrics, outgoing: Outgoing) {
        while self.0.try_join_next().is_some() {}
        if self.0.len() >= IN_FLIGHT {
            metrics.rebirths("lost").inc();
            return;
        }
        let (handle, metrics) = (Arc::clone(handle), metrics.clone());
        self.0.spawn(async move {
            let Outgoing { topic, payload } = outgoing;
            let publish = Publish::new(topic.clone(), payload, QoS::AtMostOnce);
            match handle.publish(publish).await {
                Ok(_) => metrics.rebirths("sent").inc(),
                Err(error) => {
                    tracing::warn!(topic, %error, "an Edge Node was not asked for its births");
                    metrics.rebirths("lost").inc()
                }
            };
        });
    }
}

impl Task {
    /// Sends what the machine of a device has to say. The others of this session hear it as those of other sessions
    /// do, to whom alone the server sends it.
    pub(super) fn ask(&mut self, id: &DeviceId) {
        let Some(watched) = self.watched.get_mut(id) else {
            return;
        };
        for (server, outgoing) in watched.machine.outgoing(self.now) {
            let all = &self.watched;
            let route = self
                .routes
                .of(&outgoing.topic, |id| Some((all.get_index_of(id)?, false)));
            for evidence in &route.evidence {
                if let Some((other, watched)) = self.watched.get_index_mut(evidence.index)
                    && other != id
                {
                    let message = Inbound {
                        topic: &outgoing.topic,
                        payload: &outgoing.payload,
                        retained: false,
                        qos: QoS::AtMostOnce,
                    };
                    watched
                        .machine(&server)
                        .on_message(&server, message, self.now);
                }
            }
            let (handle, metrics) = (&self.parts.handle, &self.parts.metrics);
            self.asking.send(handle, metrics, outgoing);
        }
    }
}
