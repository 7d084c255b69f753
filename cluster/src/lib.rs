//! What every process that talks to the API server needs: Leases and how long they have stood still, watches
//! that never end, errors in words. In: a client. Out: objects and their changes. What they mean is the callers'.

mod follow;
pub mod lease;
mod observed;
mod words;

pub use follow::{Quiet, follow};
pub use lease::{Failure, InNamespace, Leases, SharedLeases};
pub use observed::{Observed, Record};
pub use words::{is_forbidden, watch_words, words};
