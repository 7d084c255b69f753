//! What becomes of a PUBLISH: handed to the consumer, or counted with the reason why not.

use std::time::Instant;

use super::{
    Fatal, Machine, Violation,
    inbound::{Arrival, Came},
};
use crate::{
    Counters, Event, Message, Properties, QoS, Topic,
    codec::{Head, Props, PublishIn},
};

impl Machine {
    pub(super) fn message(&mut self, publish: PublishIn, now: Instant) -> Result<(), Fatal> {
        let PublishIn {
            duplicate,
            qos,
            retain,
            topic,
            id,
            props,
            payload,
        } = publish;
        if props
            .as_ref()
            .is_some_and(|props| props.topic_alias.is_some())
        {
            return Err(Violation(0x94, "a topic alias, although none was allowed").into());
        }
        self.not_drained(qos, now);
        let topic = Topic::parse(topic);
        let (subscription_ids, properties) = props.map(|props| split(*props)).unwrap_or_default();
        let copy = topic.as_ref().is_some_and(|topic| {
            !duplicate && !retain && self.recent.is_copy(topic, &payload, qos, &subscription_ids)
        });
        let stored = qos == QoS::ExactlyOnce && self.state.contains(id);
        let wanted = topic.filter(|_| !copy);
        let came = Came {
            qos,
            id,
            stored,
            keep: wanted.is_some(),
        };
        let arrival = self.inbound.publish(came, &mut self.out);
        let (Arrival::Deliver(ack), Some(topic)) = (arrival, wanted) else {
            self.skipped(came, copy);
            return Ok(());
        };
        self.counters.received(qos);
        self.events.push(Event::Message(Message {
            topic,
            payload,
            qos,
            retained: retain,
            duplicate,
            subscription_ids,
            properties,
            ack,
            received: now,
        }));
        Ok(())
    }

    /// A message above the limit: counted, acknowledged in its turn, not delivered.
    pub(super) fn oversized(&mut self, head: Head, now: Instant) {
        let topic = Topic::parse(head.topic);
        let shown = topic.as_ref().map_or("", Topic::as_str);
        tracing::warn!(
            size = head.size,
            topic = shown,
            "message above the maximum packet size skipped"
        );
        Counters::add(&self.counters.skipped_too_large, 1);
        self.not_drained(head.qos, now);
        let came = Came {
            qos: head.qos,
            id: head.packet_id.unwrap_or_default(),
            stored: false,
            keep: false,
        };
        self.inbound.publish(came, &mut self.out);
        let retained = head.retain;
        self.events.extend(topic.map(|topic| Event::TooLarge {
            topic,
            retained,
            at: now,
        }));
    }

    fn skipped(&self, came: Came, copy: bool) {
        let counter = match (copy, came.keep) {
            (true, _) => &self.counters.skipped_overlap,
            (false, true) => &self.counters.skipped_duplicate,
            (false, false) => &self.counters.skipped_invalid_topic,
        };
        Counters::add(counter, 1);
    }

    /// Queued messages have QoS 1 or 2.
    fn not_drained(&mut self, qos: QoS, now: Instant) {
        if let Some(drain) = self.drain.as_mut().filter(|_| qos != QoS::AtMostOnce) {
            drain.last = now;
        }
    }
}

/// What the session needs and what the application may want.
fn split(props: Props) -> (Vec<u32>, Option<Box<Properties>>) {
    let properties = Properties {
        payload_is_utf8: props.payload_is_utf8,
        message_expiry: props.message_expiry,
        content_type: props.content_type,
        response_topic: props.response_topic,
        correlation_data: props.correlation_data,
        user: props.user,
    };
    let some = properties != Properties::default();
    (props.subscription_ids, some.then(|| Box::new(properties)))
}
