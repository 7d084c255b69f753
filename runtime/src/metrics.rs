//! Metrics as OpenMetrics text. In: a registry that the parts of a process register with at start.
//! Out: the text of `/metrics`. Labels come from closed sets; never from devices or topics.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
pub use prometheus_client::registry::Registry;

use crate::version;

/// The content type of the OpenMetrics text format 1.0.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A registry whose names begin with `akri_mqtt_`, with `build_info` and the start time of
/// `program` in it, the process that started at `started`.
#[must_use]
pub fn registry(program: &'static str, started: SystemTime) -> Registry {
    let mut registry = Registry::with_prefix("akri_mqtt");
    registry.register(
        "build",
        "Version and commit of the running program",
        Info::new([
            ("program", program),
            ("version", version::VERSION),
            ("commit", version::COMMIT),
        ]),
    );
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    registry.register(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970",
        ConstGauge::new(since.as_secs_f64()),
    );
    registry
}

/// The OpenMetrics text of everything in `registry`.
///
/// # Errors
/// Only when a collector of the registry fails to write its values.
pub fn encode(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use std::time::Duration;

    #[test]
    fn text_carries_the_prefix_the_build_and_the_start() {
        let mut registry = registry("akri-mqtt", UNIX_EPOCH + Duration::from_millis(1_500));
        let counter: Counter = Counter::default();
        registry.register("responses", "Lists sent", counter.clone());
        counter.inc();
        let text = encode(&registry).unwrap();
        assert!(
            text.contains("akri_mqtt_build_info{program=\"akri-mqtt\",version=\""),
            "{text}"
        );
        assert!(
            text.contains("\nakri_mqtt_process_start_time_seconds 1.5\n"),
            "{text}"
        );
        assert!(text.contains("\nakri_mqtt_responses_total 1\n"), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
