//! What the monitoring broker itself says on MQTT: commands for devices, and that it is there. In: commands of
//! the API, sessions, responses. Out: messages on MQTT servers. What the data of devices means is left to others.

mod allow;
mod announce;
mod audit;
mod command;
mod commands;
mod link;
mod metrics;
mod waiting;

pub use allow::AllowedTopic;
pub use announce::AnnounceTopic;
pub use command::{Command, CommandError, Done, Response};
pub use commands::{Commands, timeout};
pub use link::{OwnTopics, Talk};

/// What may be said.
#[derive(Clone, Debug, Default)]
pub struct TalkOptions {
    /// Topics on which commands may be published; none: publishing is off.
    pub allow_publish: Vec<AllowedTopic>,
    /// Where sessions announce themselves.
    pub announce: AnnounceTopic,
}
