//! What a Discover call asks for. In: its message. Out: checked details, credentials and the largest
//! response that the caller takes; or `INVALID_ARGUMENT` with everything that is wrong.

use std::sync::Arc;

use akri_mqtt_core::details::{Details, Fault};
use akri_mqtt_proto::akri::{ByteData, DiscoverRequest};
use tonic::Status;
use tracing::warn;

use crate::credentials::{MAX_RESPONSE, Properties};
use crate::naming::DetailsDigest;

/// Largest response that a caller may ask for.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// Bytes of an error's text: it travels in a header, which clients limit to 16 KiB.
const MAX_MESSAGE: usize = 4_096;

/// A Discover call.
#[derive(Debug)]
pub struct Asked {
    /// What to look for.
    pub details: Arc<Details>,
    /// Digest of the details as they were sent.
    pub digest: DetailsDigest,
    /// Credentials.
    pub properties: Properties,
    /// Bytes of a response.
    pub limit: usize,
}

impl Asked {
    /// Reads a call.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` with all faults, each with line and column.
    pub fn read(request: &DiscoverRequest) -> Result<Self, Status> {
        let details = parse(&request.discovery_details)?;
        let properties = &request.discovery_properties;
        Ok(Self {
            limit: response_limit(&details, properties.get(MAX_RESPONSE))?,
            details: Arc::new(details),
            digest: DetailsDigest::of(&request.discovery_details),
            properties: Properties::of(properties),
        })
    }
}

fn parse(text: &str) -> Result<Details, Status> {
    Details::parse(text).map_err(|faults| refused(faults.iter()))
}

fn refused<'a>(faults: impl Iterator<Item = &'a Fault>) -> Status {
    let faults: Vec<String> = faults.map(ToString::to_string).collect();
    for fault in &faults {
        warn!(fault, "discoveryDetails are refused");
    }
    let mut message = String::from("discoveryDetails: ");
    for (index, fault) in faults.iter().enumerate() {
        if message.len() + fault.len() > MAX_MESSAGE {
            message.push_str(&format!("; and {} more, see the log", faults.len() - index));
            break;
        }
        message.push_str(if index == 0 { "" } else { "; " });
        message.push_str(fault);
    }
    Status::invalid_argument(message)
}

fn response_limit(details: &Details, property: Option<&ByteData>) -> Result<usize, Status> {
    let Some(data) = property else {
        return Ok(details.limits.max_response_bytes);
    };
    let bytes = data.vec.clone().unwrap_or_default();
    let asked = std::str::from_utf8(&bytes)
        .ok()
        .and_then(|text| text.trim().parse::<usize>().ok());
    match asked {
        Some(asked) if (1..=MAX_RESPONSE_BYTES).contains(&asked) => Ok(asked),
        _ => Err(Status::invalid_argument(format!(
            "discoveryProperties: {MAX_RESPONSE}: allowed are 1 to {MAX_RESPONSE_BYTES} bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tonic::Code;

    use super::*;

    fn ask(details: &str, max_response: Option<&str>) -> Result<Asked, Status> {
        let value = max_response.map(|text| ByteData {
            vec: Some(text.to_owned().into()),
        });
        let properties: BTreeMap<_, _> = value
            .into_iter()
            .map(|value| (MAX_RESPONSE.to_owned(), value))
            .collect();
        Asked::read(&DiscoverRequest {
            discovery_details: details.to_owned(),
            discovery_properties: properties,
        })
    }

    const GOOD: &str = "serverUrls: [tcp://h:1883]\ntopics: ['a/+']\n";

    #[test]
    fn every_fault_is_named_with_line_and_column() {
        let text = "serverUrls: [tcp://h:1883]\ntopics: ['a/+']\nlimits: {maxDevices: many}\nnonsense: 1\n";
        let status = ask(text, None).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("line 3, column"), "{status}");
        assert!(status.message().contains("line 4, column"), "{status}");
    }

    #[test]
    fn an_error_fits_into_a_header_and_says_how_much_it_leaves_out() {
        let text: String = (0..500).map(|n| format!("nonsense-{n}: 1\n")).collect();
        let message = ask(&text, None).unwrap_err().message().to_owned();
        assert!(message.len() < MAX_MESSAGE + 64, "{}", message.len());
        assert!(message.contains(" more, see the log"), "{message}");
    }

    #[test]
    fn a_caller_says_how_large_a_response_it_takes() {
        assert_eq!(ask(GOOD, None).unwrap().limit, 3 << 20);
        assert_eq!(ask(GOOD, Some("67108864")).unwrap().limit, 64 << 20);
        for wrong in ["67108865", "0", "-1", "much"] {
            assert_eq!(
                ask(GOOD, Some(wrong)).unwrap_err().code(),
                Code::InvalidArgument
            );
        }
    }
}
