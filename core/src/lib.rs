//! Topics, device identity, discoveryDetails, presence and decoding, without I/O.

pub mod clock;
pub mod identity;
pub mod topic;
