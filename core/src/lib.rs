//! Topics, device identity, discoveryDetails, presence and decoding, without I/O.

pub mod clock;
mod convention;
pub mod credentials;
pub mod decode;
pub mod details;
pub mod identity;
pub mod pool;
pub mod presence;
pub mod properties;
pub mod sparkplug;
pub mod topic;
pub mod trace;
pub mod yaml;
