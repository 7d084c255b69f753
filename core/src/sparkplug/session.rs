//! The session of an Edge Node (Eclipse Sparkplug 3.0, 5.4 and 6.4): its number `bdSeq`, the numbers of its messages,
//! and the request for a rebirth. In: payloads. Out: those numbers; the payload of a request.

use prost::Message as _;

use super::payload::{Content, Metric, Numbered, Payload, Session};
use crate::decode::DecodeError;

/// The metric that tells one session of an Edge Node from another.
const BD_SEQ: &str = "bdSeq";
/// The metric by which an Edge Node is asked for all births.
const REBIRTH: &str = "Node Control/Rebirth";
/// The number of the data type Boolean.
const BOOLEAN: u32 = 11;

/// What NBIRTH and NDEATH say of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeMessage {
    /// None in an NDEATH.
    pub seq: Option<u64>,
    pub bd_seq: u64,
}

impl NodeMessage {
    /// Reads an NBIRTH or NDEATH.
    ///
    /// # Errors
    /// It is no Sparkplug B payload, or has no `bdSeq`.
    pub(crate) fn read(payload: &[u8]) -> Result<Self, DecodeError> {
        let session = Session::decode(payload).map_err(|_| DecodeError::NotSparkplug)?;
        let mut metrics = session.metrics.iter();
        let metric = metrics.find(|metric| metric.name.as_deref() == Some(BD_SEQ));
        let bd_seq = metric.and_then(|metric| metric.long.or(metric.int.map(u64::from)));
        Ok(Self {
            seq: session.seq,
            bd_seq: bd_seq.ok_or(DecodeError::NotSparkplug)?,
        })
    }
}

/// The number of a message; `None` if it has none.
///
/// # Errors
/// It is no Sparkplug B payload.
pub(crate) fn sequence(payload: &[u8]) -> Result<Option<u64>, DecodeError> {
    if payload.is_empty() {
        return Err(DecodeError::NotSparkplug);
    }
    let numbered = Numbered::decode(payload).map_err(|_| DecodeError::NotSparkplug)?;
    Ok(numbered.seq)
}

/// Whether an NCMD asks its Edge Node for a rebirth.
pub(crate) fn asks_for_rebirth(payload: &[u8]) -> bool {
    let Ok(session) = Session::decode(payload) else {
        return false;
    };
    let mut metrics = session.metrics.iter();
    metrics.any(|metric| metric.name.as_deref() == Some(REBIRTH) && metric.boolean == Some(true))
}

/// The payload of an NCMD that asks for a rebirth, sent at `millis` since 1970.
pub(crate) fn rebirth_request(millis: u64) -> Vec<u8> {
    let metric = Metric {
        name: Some(REBIRTH.to_owned()),
        datatype: Some(BOOLEAN),
        value: Some(Content::Boolean(true)),
        ..Metric::default()
    };
    let payload = Payload {
        timestamp: Some(millis),
        metrics: vec![metric],
    };
    payload.encode_to_vec()
}
