//! Logging to standard error. In: `--log-format` and `RUST_LOG`. Out: the global subscriber.
//! What is logged, and that no secret is, is up to the callers.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::exit::UsageError;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One line for people, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The logging arguments; `main_with` adds them to every program and subcommand.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Logging {
    /// Form of the log on standard error; what is logged is set by RUST_LOG
    #[arg(
        long,
        value_enum,
        default_value_t,
        global = true,
        env = "AKRI_MQTT_LOG_FORMAT",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
}

/// Installs the global subscriber: `format` on standard error, filtered by `directives`, the text
/// of `RUST_LOG`. The program that embeds a library never calls it; [`crate::main_with`] does.
///
/// # Errors
/// When the directives do not parse or a subscriber is installed already.
pub fn init(format: LogFormat, directives: &str) -> Result<(), UsageError> {
    let filter = parse(directives)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let installed = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init(),
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .finish()
            .try_init(),
    };
    installed.map_err(|error| UsageError::new(format!("logging cannot be started: {error}")))
}

/// The filter directives: `RUST_LOG` if it is set and not empty, else `default`.
pub(crate) fn directives(rust_log: Option<String>, default: &str) -> String {
    rust_log
        .filter(|text| !text.trim().is_empty())
        .unwrap_or_else(|| default.to_owned())
}

fn parse(directives: &str) -> Result<EnvFilter, UsageError> {
    EnvFilter::builder().parse(directives).map_err(|error| {
        UsageError::new(format!(
            "RUST_LOG: found {directives:?} ({error}), allowed are directives such as \"info\" or \"warn,akri_mqtt_session=debug\""
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_log_wins_over_the_default_unless_it_is_empty() {
        assert_eq!(directives(Some("debug".into()), "info"), "debug");
        assert_eq!(directives(Some("  ".into()), "info"), "info");
        assert_eq!(directives(None, "warn"), "warn");
    }

    #[test]
    fn bad_directives_are_a_usage_error_that_names_the_variable() {
        let error = parse("info,=,x=loud").unwrap_err().to_string();
        assert!(error.starts_with("RUST_LOG: found"), "{error}");
    }

    #[test]
    fn good_directives_parse() {
        assert_eq!(
            parse("warn,akri_mqtt_core=debug").unwrap().to_string(),
            "akri_mqtt_core=debug,warn"
        );
    }
}
