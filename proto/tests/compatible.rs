//! Clients that were built before stay able to talk to us: what the monitoring API has had, it keeps.
//! In: the descriptors, and `baseline/monitoring.v1.txt` with one line for each field, value and call that was ever
//! released. Out: what was removed, renumbered or changed. `AKRI_MQTT_WRITE_BASELINE=1` adds what is new.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use akri_mqtt_proto::DESCRIPTORS;
use prost::Message as _;
use prost_types::{DescriptorProto, EnumDescriptorProto, FileDescriptorSet};

const PACKAGE: &str = "akri_mqtt.monitoring.v1";

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn of_message(into: &mut BTreeSet<String>, path: &str, message: &DescriptorProto) {
    let path = format!("{path}.{}", message.name());
    for field in &message.field {
        let (label, kind) = (field.label().as_str_name(), field.r#type().as_str_name());
        let oneof = field.oneof_index.map(|index| {
            let index = usize::try_from(index).unwrap();
            format!(" in {}", message.oneof_decl[index].name())
        });
        into.insert(format!(
            "{path}.{} = {} {label} {kind}{}{}",
            field.name(),
            field.number(),
            field.type_name(),
            oneof.unwrap_or_default()
        ));
    }
    for nested in &message.nested_type {
        of_message(into, &path, nested);
    }
    for nested in &message.enum_type {
        of_enum(into, &path, nested);
    }
}

fn of_enum(into: &mut BTreeSet<String>, path: &str, values: &EnumDescriptorProto) {
    for value in &values.value {
        into.insert(format!(
            "{path}.{}.{} = {}",
            values.name(),
            value.name(),
            value.number()
        ));
    }
}

/// One line for each thing that a client may rely on.
fn present() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let file = files.file.iter().find(|file| file.package() == PACKAGE);
    let file = file.unwrap();
    let mut lines = BTreeSet::new();
    for message in &file.message_type {
        of_message(&mut lines, "message", message);
    }
    for values in &file.enum_type {
        of_enum(&mut lines, "enum", values);
    }
    for service in &file.service {
        for rpc in &service.method {
            let stream = |streams: bool| if streams { "stream " } else { "" };
            lines.insert(format!(
                "rpc {}.{} ({}{}) returns ({}{})",
                service.name(),
                rpc.name(),
                stream(rpc.client_streaming()),
                rpc.input_type(),
                stream(rpc.server_streaming()),
                rpc.output_type()
            ));
        }
    }
    lines
}

#[test]
fn nothing_that_a_client_may_rely_on_is_removed_renumbered_or_changed() {
    let path = file("baseline/monitoring.v1.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let baseline: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let present = present();
    let broken: Vec<_> = baseline.difference(&present).collect();
    assert!(broken.is_empty(), "clients rely on {broken:#?}");
    if std::env::var_os("AKRI_MQTT_WRITE_BASELINE").is_some() {
        let text: String = present.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(path, text).unwrap();
        return;
    }
    let new: Vec<_> = present.difference(&baseline).collect();
    assert!(
        new.is_empty(),
        "not in the baseline yet: AKRI_MQTT_WRITE_BASELINE=1 cargo test -p akri-mqtt-proto; {new:#?}"
    );
}

#[test]
fn every_message_field_value_and_call_has_a_comment() {
    let text = std::fs::read_to_string(file("proto/monitoring/v1/monitoring.proto")).unwrap();
    let mut before = "";
    for line in text.lines().map(str::trim) {
        let declares = ["message ", "enum ", "service ", "rpc ", "oneof "];
        let is_field = line.ends_with(';')
            && line.contains(" = ")
            && !line.starts_with("syntax")
            && !line.starts_with("option");
        if is_field || declares.iter().any(|word| line.starts_with(word)) {
            assert!(before.starts_with("//"), "no comment above {line:?}");
        }
        before = line;
    }
}
