//! Objects as they are sent to the API server. In: templates, properties, names. Out: complete JSON.
//! What the template says stays, fields that this build does not know too.

pub(super) mod attachments;
pub(super) mod environment;
pub(super) mod instance;
pub(super) mod meta;
pub(super) mod pod;
