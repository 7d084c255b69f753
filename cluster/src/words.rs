//! What the API server said, in one line for people: the client's own text of an error repeats the
//! whole object.

use kube::runtime::watcher;

/// The error in words.
#[must_use]
pub fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} (code {})", status.reason, status.code),
        kube::Error::Service(error) => chain(error.as_ref()),
        other => chain(other),
    }
}

/// The error of a watch in words.
#[must_use]
pub fn watch_words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => words(error),
        watcher::Error::WatchError(status) => status.message.clone(),
        other => chain(other),
    }
}

/// Whether the API server refused it for lack of a right.
#[must_use]
pub fn is_forbidden(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_forbidden())
}

/// An error and what it came from; "connection refused" stands last.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    #[test]
    fn a_refusal_is_its_message_alone() {
        let status = Status::failure("leases \"x\" is forbidden", "Forbidden").with_code(403);
        let error = kube::Error::Api(status.boxed());
        assert_eq!(words(&error), "leases \"x\" is forbidden");
        assert!(is_forbidden(&error));
        let bare = kube::Error::Api(Status::failure("", "Timeout").with_code(504).boxed());
        assert_eq!(words(&bare), "Timeout (code 504)");
    }

    #[test]
    fn a_failed_connection_names_its_cause() {
        let refused = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused");
        assert_eq!(words(&kube::Error::Service(refused.into())), "refused");
    }
}
