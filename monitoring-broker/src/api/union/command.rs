//! Commands in a pool: they are for the member that watches the device, and are sent to it once.

use std::time::Duration;

use akri_mqtt_core::pool::Member;

use super::{Asked, Others, ServiceError, wire};
use crate::api::service::{CommandView, shorten};
use crate::talk::{Command, CommandError};

/// What a command takes beside its own time, to the other member and back.
const AROUND: Duration = Duration::from_secs(2);

impl Asked {
    /// Publishes a command and waits for what was asked for.
    ///
    /// # Errors
    /// Why nothing was published, or what was not heard in time. When the member of the device does not answer, it
    /// is not known whether the command was sent.
    pub async fn publish(&self, command: Command) -> Result<CommandView, ServiceError> {
        let Some(others) = self.others() else {
            return self.service.publish(command).await;
        };
        let (device, is_ours) = (
            command.device.clone(),
            self.service.devices.is_watched(&command.device),
        );
        let owner = others.owner(&device).filter(|_| !is_ours);
        let Some(owner) = owner else {
            return self.service.publish(command).await;
        };
        let published = if owner == others.0.me {
            self.service.publish(command).await
        } else {
            self.pass_on(others, &owner, command).await
        };
        match published {
            Err(error) => Err(self.absent(error, &device, &owner).await),
            done => done,
        }
    }

    async fn pass_on(
        &self,
        others: &Others,
        owner: &Member,
        command: Command,
    ) -> Result<CommandView, ServiceError> {
        let mut links = others.present().links.into_iter();
        let Some(link) = links.find(|link| link.member == *owner) else {
            return Err(ServiceError::Unreachable(format!(
                "the member {owner} of the pool, which has the device, has not said how it is reached; nothing was sent"
            )));
        };
        tracing::info!(device = %command.device, member = %owner, peer = ?command.peer, "command passed on");
        let within = command.timeout.saturating_add(AROUND);
        let request = wire::publish_request(command);
        let answer = link.call(
            &self.caller,
            within,
            request,
            |mut client, request| async move { client.publish(request).await },
        );
        match answer.await {
            Ok(done) => Ok(CommandView {
                no_subscribers: done.no_subscribers,
                response: done.response.map(wire::message),
            }),
            Err(ServiceError::Unreachable(why)) => Err(ServiceError::Unreachable(format!(
                "{why}. Whether the command was sent is not known"
            ))),
            Err(error) => Err(error),
        }
    }
    /// What it means that the member to which a device belongs does not have it: while a shard changes hands, another
    /// one does.
    async fn absent(&self, error: ServiceError, device: &str, owner: &Member) -> ServiceError {
        let is_absent = matches!(
            error,
            ServiceError::UnknownDevice(_) | ServiceError::Command(CommandError::NotServed(_))
        );
        if !is_absent {
            return error;
        }
        let error = match self.device(device).await {
            Ok(view) if view.watched => CommandError::Unavailable(format!(
                "the device goes to the member {owner} of the pool just now; nothing was sent"
            )),
            Ok(_) => CommandError::NotServed(shorten(device)),
            Err(error) => return error,
        };
        error.into()
    }
}
