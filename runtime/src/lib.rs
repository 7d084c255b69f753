//! What every process needs: arguments, tracing, shutdown, supervised tasks, the admin port.
//! In: a program's `run` and its arguments. Out: an exit code. Knows nothing of MQTT or Akri.
//!
//! A binary's `main.rs` is one call of [`main_with`]; its `run` makes [`Tasks`], a [`Health`] and a
//! metrics registry, and serves [`admin::router`] with [`serve`].

pub mod admin;
mod bodies;
mod connections;
pub mod exit;
pub mod files;
pub mod health;
pub mod listen;
pub mod logging;
pub mod metrics;
pub mod mounted;
pub mod program;
pub mod serve;
pub mod shutdown;
mod silence;
pub mod tasks;
pub mod tls;
pub mod version;

pub use exit::{UsageError, usage};
pub use health::{Condition, Health};
pub use listen::{bind, default_listen, in_pod};
pub use logging::{LogFormat, Logging};
pub use program::{Program, main_with};
pub use serve::serve;
pub use shutdown::Shutdown;
pub use tasks::{JOIN_WITHIN, Tasks};
