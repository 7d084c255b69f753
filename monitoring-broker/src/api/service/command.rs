//! Commands for devices. In: a command as a front took it. Out: what became of it, with the response as any
//! message is shown, but without a place in the store.

use super::{MessageView, Service, ServiceError};
use crate::store::{Record, Stored};
use crate::talk::Command;

/// What became of a command.
#[derive(Clone, Debug)]
pub struct CommandView {
    /// The server says that nobody subscribes to the topic.
    pub no_subscribers: bool,
    /// The device's response.
    pub response: Option<MessageView>,
}

impl Service {
    /// Publishes a command and waits for what was asked for.
    ///
    /// # Errors
    /// Why nothing was published, or what was not heard in time.
    pub async fn publish(&self, command: Command) -> Result<CommandView, ServiceError> {
        let device = command.device.clone();
        let done = self.commands.publish(command, &self.devices).await?;
        let response = done.response.map(|response| {
            let topic = response.topic.into();
            let record = Record {
                previous: 0,
                topic: 0,
                inline: None,
                time: super::view::nanoseconds(response.at),
                qos: response.qos,
                retained: false,
                duplicate: response.duplicate,
                properties: Some(Box::new(response.properties)),
                payload: response.payload,
            };
            let view = self.viewer().view(Stored {
                sequence: 0,
                device: device.into(),
                topic,
                record,
            });
            MessageView {
                cursor: String::new(),
                ..view
            }
        });
        Ok(CommandView {
            no_subscribers: done.no_subscribers,
            response,
        })
    }
}
