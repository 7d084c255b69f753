//! From an MQTT session into the store. In: events of one session, devices that come and go.
//! Out: stored messages, acknowledged after their commit; presence. One task per session.

mod asking;
mod changes;
mod ending;
mod names;
mod receipts;
mod routes;
mod task;
mod wanted;
mod watched;

pub use names::{ClientIds, Identity, Scope};
pub use task::{Command, Parts, run};
pub use wanted::{Filters, subscriptions};
