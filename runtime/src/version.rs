//! Version and commit of this build, as `--version` and the metric `build_info` show them.

/// The version of the workspace, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The abbreviated commit this was built from, or `unknown` when there was no git.
pub const COMMIT: &str = env!("AKRI_MQTT_BUILD_COMMIT");

/// What `--version` prints after the program's name: `0.1.0 (1a2b3c4d5e6f)`.
#[must_use]
pub fn long() -> String {
    format!("{VERSION} ({COMMIT})")
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_line_holds_version_and_commit() {
        let line = super::long();
        assert!(line.starts_with(super::VERSION), "{line}");
        assert!(line.ends_with(&format!("({})", super::COMMIT)), "{line}");
        assert!(!super::COMMIT.is_empty());
    }
}
