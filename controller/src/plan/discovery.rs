//! What is to be said about a Configuration's discovery. In: the finding. Out: reasons and sentences, for
//! its status and for Events.

use super::blueprint::Blueprint;
use super::words::{counted, listed, shown};
use crate::discover::{DiscoveryState, Finding, LeftOut, ServersReport};

/// How something is, as a condition says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// `None` is `Unknown`.
    pub(super) good: Option<bool>,
    /// `CamelCase`
    pub(super) reason: &'static str,
    pub(super) words: String,
}

impl Verdict {
    pub(super) fn new(good: Option<bool>, reason: &'static str, words: impl Into<String>) -> Self {
        Self {
            good,
            reason,
            words: words.into(),
        }
    }
}

/// Whether the handler finds devices.
pub(super) fn discovered(blueprint: &Blueprint, finding: Option<&Finding>) -> Verdict {
    let handler = shown(&blueprint.handler);
    let Some(finding) = finding else {
        return Verdict::new(None, "Waiting", "discovery has not begun");
    };
    let words = match &finding.state {
        DiscoveryState::NoHandler => {
            let words = format!(
                "no discovery handler `{handler}` has registered; it must run as a container of the controller's pod"
            );
            return Verdict::new(Some(false), "NoHandler", stands(finding, words));
        }
        DiscoveryState::NotShared => {
            let words = format!(
                "discovery handler `{handler}` finds devices of its own node only (shared: false), which needs Akri"
            );
            return Verdict::new(Some(false), "NotShared", stands(finding, words));
        }
        DiscoveryState::Unresolved { reason } => {
            return Verdict::new(
                Some(false),
                "Unresolved",
                stands(finding, shown_long(reason)),
            );
        }
        DiscoveryState::Failed { reason } => {
            return Verdict::new(Some(false), "Failed", stands(finding, shown_long(reason)));
        }
        DiscoveryState::Connecting => match &finding.devices {
            None => {
                return Verdict::new(
                    None,
                    "Connecting",
                    format!("handler `{handler}` is being asked"),
                );
            }
            Some(devices) => counted(devices.len(), "device"),
        },
        DiscoveryState::Open => match &finding.devices {
            None => {
                let words = format!("handler `{handler}` has not sent a list yet");
                return Verdict::new(None, "NoList", words);
            }
            Some(devices) => counted(devices.len(), "device"),
        },
    };
    Verdict::new(Some(true), "Listed", words + &left_out(finding.left_out))
}

/// Whether the handler reaches the servers.
pub(super) fn reachable(finding: Option<&Finding>) -> Verdict {
    let Some(report) = finding.and_then(|finding| finding.servers.as_deref()) else {
        return Verdict::new(None, "NotReported", "the handler does not say");
    };
    let refused = refused(report);
    if !report.all_connected() {
        let words: Vec<String> = report
            .servers
            .iter()
            .filter(|server| !server.connected)
            .map(|server| match &server.error {
                Some(error) => format!("{}: {}", server.name, shown(error)),
                None => format!("{}: not connected", server.name),
            })
            .collect();
        let words = listed(words.iter().map(String::as_str));
        return Verdict::new(Some(false), "NotConnected", words);
    }
    if !refused.is_empty() {
        let words = listed(refused.iter().map(String::as_str));
        return Verdict::new(Some(false), "FilterRefused", words);
    }
    let words = format!("{} connected", counted(report.servers.len(), "server"));
    Verdict::new(Some(true), "Connected", words)
}

fn refused(report: &ServersReport) -> Vec<String> {
    let of = |server: &crate::discover::ServerReport| {
        let name = server.name.clone();
        let filters = server.refused_filters.clone().into_iter();
        filters.map(move |(filter, why)| {
            format!("{name} refuses `{}`: {}", shown(&filter), shown(&why))
        })
    };
    report.servers.iter().flat_map(of).collect()
}

/// What goes on as it was although something is wrong.
fn stands(finding: &Finding, words: String) -> String {
    match &finding.devices {
        Some(devices) => format!(
            "{words}; the last list stands ({})",
            counted(devices.len(), "device")
        ),
        None => words,
    }
}

fn left_out(out: LeftOut) -> String {
    let parts = [
        (out.nameless, "without an id"),
        (out.duplicates, "listed twice"),
        (out.oversized, "too large"),
        (out.excess, "more than a list may have"),
    ];
    let words: Vec<String> = parts
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if words.is_empty() {
        return String::new();
    }
    format!("; left out: {}", words.join(", "))
}

/// Reasons of others may be whole sentences.
fn shown_long(reason: &str) -> String {
    if reason.chars().nth(600).is_none() {
        return reason.to_owned();
    }
    reason.chars().take(600).chain(['…']).collect()
}
