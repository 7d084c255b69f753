//! Judges one AdmissionReview. In: the bytes that the API server sent. Out: the bytes to answer, or
//! why they are no review. Opens nothing and keeps nothing.
//!
//! Refused is only what would not work: the creation of a Configuration for the handler `mqtt`, or
//! a change of its spec, whose `discoveryDetails` are wrong. Everything else passes, so that nobody
//! is ever kept from deleting, labelling or repairing anything.

use akri_mqtt_core::details::{Details, Fault};
use serde::Deserialize;
use serde_json::{Value, json};

/// The one version that both sides speak.
const API_VERSION: &str = "admission.k8s.io/v1";
/// The handler whose details are ours to judge.
const HANDLER: &str = "mqtt";
/// What a person reads at once; the rest is counted.
const FAULTS_SHOWN: usize = 20;
/// As much text as the API server passes on without complaint.
const MESSAGE_BYTES: usize = 4 * 1024;
/// A review's uid is a UUID; more is not sent back.
const UID_BYTES: usize = 256;

/// Why bytes are no review.
#[derive(Debug, thiserror::Error)]
pub enum NoReview {
    /// They are not the JSON of a review.
    #[error("not an AdmissionReview: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// A version that was not asked for.
    #[error("apiVersion is not {API_VERSION}")]
    OtherVersion,
    /// There is nothing to judge in it.
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
}

/// The answer, and whether it is a refusal.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The AdmissionReview to send back.
    pub review: Value,
    /// What is wrong, if it was refused.
    pub refusal: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    kind: Kind,
    sub_resource: Option<String>,
    operation: String,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(default)]
    group: String,
    #[serde(default)]
    kind: String,
}

/// Judges a review.
///
/// # Errors
/// The bytes are none.
pub fn review(body: &[u8]) -> Result<Answer, NoReview> {
    let review: Review = serde_json::from_slice(body)?;
    if review.api_version != API_VERSION {
        return Err(NoReview::OtherVersion);
    }
    let request = review
        .request
        .filter(|request| (1..=UID_BYTES).contains(&request.uid.len()))
        .ok_or(NoReview::NoRequest)?;
    let refusal = refusal(&request);
    let uid = &request.uid;
    let response = match &refusal {
        None => json!({"uid": uid, "allowed": true}),
        Some(message) => json!({
            "uid": uid,
            "allowed": false,
            "status": {"status": "Failure", "code": 422, "reason": "Invalid", "message": message},
        }),
    };
    Ok(Answer {
        review: json!({"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}),
        refusal,
    })
}

/// What is wrong with the object, if it is ours to say.
fn refusal(request: &Request) -> Option<String> {
    let of_configuration = request.kind.group == "akri.sh"
        && request.kind.kind == "Configuration"
        && request
            .sub_resource
            .as_deref()
            .unwrap_or_default()
            .is_empty();
    let written = ["CREATE", "UPDATE"].contains(&request.operation.as_str());
    if !of_configuration || !written {
        return None;
    }
    let object = request.object.as_ref()?;
    let deleted = object.pointer("/metadata/deletionTimestamp");
    if deleted.is_some_and(|time| !time.is_null()) {
        return None;
    }
    let spec = object.get("spec")?;
    let before = request.old_object.as_ref().and_then(|old| old.get("spec"));
    if before == Some(spec) {
        return None;
    }
    let handler = spec.get("discoveryHandler")?;
    if handler.get("name").and_then(Value::as_str) != Some(HANDLER) {
        return None;
    }
    let details = handler
        .get("discoveryDetails")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let faults: Vec<Fault> = Details::parse(details).err()?.into_iter().collect();
    Some(in_words(&faults))
}

/// All faults, a line each, as many as a person reads.
fn in_words(faults: &[Fault]) -> String {
    let mut text = match faults.len() {
        1 => "spec.discoveryHandler.discoveryDetails has a fault:".to_owned(),
        many => format!("spec.discoveryHandler.discoveryDetails has {many} faults:"),
    };
    let mut shown = 0;
    for fault in faults.iter().take(FAULTS_SHOWN) {
        let line = fault.to_string();
        if text.len() + line.len() > MESSAGE_BYTES {
            break;
        }
        text.push('\n');
        text.push_str(&line);
        shown += 1;
    }
    match faults.len() - shown {
        0 => {}
        more => text.push_str(&format!("\nand {more} more; `akri-mqtt check` shows all")),
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "serverUrls: [mqtt://mosquitto:1883]\ntopics: [\"robots/+/telemetry\"]\n";
    const BAD: &str = "serverUrls: [mqtt://mosquitto:1883]\ntopics:\n- \"a/#/b\"\nqos: 3\n";

    fn configuration(details: &str) -> Value {
        json!({
            "apiVersion": "akri.sh/v0", "kind": "Configuration",
            "metadata": {"name": "c", "namespace": "n"},
            "spec": {"discoveryHandler": {"name": "mqtt", "discoveryDetails": details}},
        })
    }

    fn request(operation: &str, object: &Value, old: &Value) -> Value {
        json!({
            "apiVersion": API_VERSION, "kind": "AdmissionReview",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": {"group": "akri.sh", "version": "v0", "kind": "Configuration"},
                "resource": {"group": "akri.sh", "version": "v0", "resource": "configurations"},
                "operation": operation, "object": object, "oldObject": old, "dryRun": false,
                "userInfo": {"username": "admin"}, "options": null,
            },
        })
    }

    fn judge(review: &Value) -> Answer {
        super::review(review.to_string().as_bytes()).unwrap()
    }

    fn refused(review: &Value) -> bool {
        let answer = judge(review);
        let allowed = answer.review["response"]["allowed"] == json!(true);
        assert_eq!(allowed, answer.refusal.is_none());
        !allowed
    }

    #[test]
    fn good_details_pass() {
        let answer = judge(&request("CREATE", &configuration(GOOD), &Value::Null));
        assert_eq!(
            answer.review,
            json!({
                "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": "705ab4f5-6393-11e8-b7cc-42010a800002", "allowed": true},
            })
        );
    }

    #[test]
    fn every_fault_is_named_with_its_line_and_column() {
        let answer = judge(&request("CREATE", &configuration(BAD), &Value::Null));
        assert_eq!(answer.review["response"]["allowed"], json!(false));
        assert_eq!(answer.review["response"]["status"]["code"], json!(422));
        let message = answer.refusal.unwrap();
        assert_eq!(answer.review["response"]["status"]["message"], message);
        let lines: Vec<_> = message.lines().collect();
        assert_eq!(
            lines[0],
            "spec.discoveryHandler.discoveryDetails has 2 faults:"
        );
        assert!(
            lines[1].starts_with("line 3, column 3: topics[0]"),
            "{message}"
        );
        assert!(lines[2].starts_with("line 4, column 1: qos"), "{message}");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn missing_or_empty_details_are_refused() {
        let mut without = configuration("");
        assert!(refused(&request("CREATE", &without, &Value::Null)));
        let handler = &mut without["spec"]["discoveryHandler"];
        handler.as_object_mut().unwrap().remove("discoveryDetails");
        assert!(refused(&request("CREATE", &without, &Value::Null)));
    }

    #[test]
    fn an_edit_is_judged_only_if_it_changes_the_spec() {
        let (good, bad) = (configuration(GOOD), configuration(BAD));
        assert!(refused(&request("UPDATE", &bad, &good)));
        assert!(!refused(&request("UPDATE", &good, &bad)));
        let mut labelled = bad.clone();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        labelled["status"] = json!({"devices": 1});
        assert!(!refused(&request("UPDATE", &labelled, &bad)));
    }

    #[test]
    fn what_is_being_deleted_passes() {
        let mut bad = configuration(BAD);
        bad["metadata"]["deletionTimestamp"] = json!("2026-01-02T03:04:05Z");
        assert!(!refused(&request("UPDATE", &bad, &configuration(GOOD))));
        assert!(!refused(&request("DELETE", &Value::Null, &bad)));
    }

    #[test]
    fn other_handlers_kinds_operations_and_subresources_pass() {
        let mut other = configuration(BAD);
        other["spec"]["discoveryHandler"]["name"] = json!("opcua");
        assert!(!refused(&request("CREATE", &other, &Value::Null)));
        let bad = configuration(BAD);
        assert!(!refused(&request("CONNECT", &bad, &Value::Null)));
        for (key, value) in [
            (
                "kind",
                json!({"group": "akri.sh", "version": "v0", "kind": "Instance"}),
            ),
            (
                "kind",
                json!({"group": "x.y", "version": "v0", "kind": "Configuration"}),
            ),
            ("subResource", json!("status")),
            ("object", Value::Null),
            ("object", json!(7)),
        ] {
            let mut review = request("CREATE", &bad, &Value::Null);
            review["request"][key] = value;
            assert!(!refused(&review), "{key}");
        }
    }

    #[test]
    fn a_dry_run_is_judged_like_the_real_one() {
        let mut review = request("CREATE", &configuration(BAD), &Value::Null);
        review["request"]["dryRun"] = json!(true);
        assert!(refused(&review));
    }

    #[test]
    fn hundreds_of_faults_become_a_message_of_bearable_length() {
        let mut bad = String::from("serverUrls: [mqtt://mosquitto:1883]\ntopics: [a]\n");
        for key in 0..500 {
            bad.push_str(&format!("key{key}: {}\n", "x".repeat(100)));
        }
        let answer = judge(&request("CREATE", &configuration(&bad), &Value::Null));
        let message = answer.refusal.unwrap();
        assert!(message.len() < MESSAGE_BYTES + 100, "{}", message.len());
        assert!(
            message.contains("more; `akri-mqtt check` shows all"),
            "{message}"
        );
    }

    #[test]
    fn garbage_is_no_review() {
        let deep = "[".repeat(100_000);
        for bytes in [
            "",
            "{}",
            "null",
            "[1]",
            "\u{0}",
            &deep,
            "{\"apiVersion\":7}",
        ] {
            assert!(super::review(bytes.as_bytes()).is_err(), "{bytes:.20}");
        }
        let mut review = request("CREATE", &configuration(GOOD), &Value::Null);
        review["apiVersion"] = json!("admission.k8s.io/v1beta1");
        assert!(matches!(
            super::review(review.to_string().as_bytes()),
            Err(NoReview::OtherVersion)
        ));
        for uid in [json!(""), json!("x".repeat(300))] {
            let mut review = request("CREATE", &configuration(GOOD), &Value::Null);
            review["request"]["uid"] = uid;
            assert!(matches!(
                super::review(review.to_string().as_bytes()),
                Err(NoReview::NoRequest)
            ));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = super::review(&bytes);
        }

        #[test]
        fn no_details_make_it_panic(details: String) {
            let _ = judge(&request("CREATE", &configuration(&details), &Value::Null));
        }
    }
}
