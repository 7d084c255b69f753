//! What `akri-mqtt migrate` found and did. In: entries. Out: lines for people or one JSON object, sorted.

use serde::Serialize;

use crate::output::printable;

/// Names are short; what is not is cut.
const WIDTH: usize = 300;

/// Everything that was looked at.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Which way.
    pub to: &'static str,
    /// Whether anything was to be changed.
    pub applied: bool,
    /// Configurations that were looked at.
    pub configurations: usize,
    /// Instances that were looked at.
    pub instances: usize,
    /// What Akri, or agentless mode, has left behind.
    pub found: Vec<Entry>,
}

/// One object on which something was left behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Entry {
    /// `Configuration` or `Instance`.
    pub kind: &'static str,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Whether somebody has asked to delete it.
    pub deleting: bool,
    /// Finalizers to remove.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// Finalizers that look like Akri's and cannot be told for certain.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_finalizers: Vec<String>,
    /// The nodes that an Instance of Akri's names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// What is done with it.
    pub action: Action,
    /// Whether it was done, or why not.
    pub result: Done,
}

/// What is done with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays as it is.
    Keep,
    /// Its stale finalizers are removed.
    RemoveFinalizers,
    /// The same, and it is deleted.
    Delete,
    /// Its status is removed.
    ClearStatus,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Nothing was to be done.
    Nothing,
    /// It would be done with `--apply`.
    Planned,
    /// It was done.
    Yes,
    /// It failed.
    Failed(String),
}

impl Report {
    /// What failed.
    pub fn failures(&self) -> usize {
        self.found
            .iter()
            .filter(|entry| matches!(entry.result, Done::Failed(_)))
            .count()
    }

    /// As one JSON object.
    ///
    /// # Errors
    /// None at present.
    pub fn json(&self) -> serde_json::Result<String> {
        Ok(format!("{}\n", serde_json::to_string_pretty(self)?))
    }

    /// As lines.
    pub fn text(&self) -> String {
        let mut text: String = self.found.iter().map(line).collect();
        let planned = self
            .found
            .iter()
            .filter(|entry| entry.result == Done::Planned)
            .count();
        let done = self
            .found
            .iter()
            .filter(|entry| entry.result == Done::Yes)
            .count();
        text.push_str(&format!(
            "looked at {} and {}: ",
            count(self.configurations, "Configuration"),
            count(self.instances, "Instance")
        ));
        text.push_str(&match (self.applied, planned, done, self.failures()) {
            (false, 0, _, _) | (true, _, 0, 0) => "nothing to do\n".to_owned(),
            (false, planned, _, _) => {
                format!(
                    "{} to change; nothing was changed, --apply does it\n",
                    count(planned, "object")
                )
            }
            (true, _, done, 0) => format!("{} changed\n", count(done, "object")),
            (true, _, done, failed) => {
                format!("{} changed, {failed} failed\n", count(done, "object"))
            }
        });
        text
    }
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

fn line(entry: &Entry) -> String {
    let mut parts = Vec::new();
    let would = if entry.result == Done::Planned {
        "would be "
    } else {
        ""
    };
    let finalizers = entry.finalizers.join(", ");
    match entry.action {
        Action::Keep if !entry.nodes.is_empty() => {
            parts.push(format!(
                "left behind by Akri (nodes {}); --delete-instances removes it",
                entry.nodes.join(", ")
            ));
        }
        Action::Keep => {}
        Action::RemoveFinalizers => parts.push(format!("finalizers {would}removed: {finalizers}")),
        Action::Delete if entry.finalizers.is_empty() => parts.push(format!("{would}deleted")),
        Action::Delete => parts.push(format!(
            "{would}deleted, finalizers {would}removed: {finalizers}"
        )),
        Action::ClearStatus => parts.push(format!("status {would}removed")),
    }
    if !entry.unknown_finalizers.is_empty() {
        let unknown = entry.unknown_finalizers.join(", ");
        parts.push(format!(
            "finalizers that no node accounts for, left alone: {unknown}"
        ));
    }
    if entry.deleting {
        parts.push("it waits to be deleted".to_owned());
    }
    if let Done::Failed(reason) = &entry.result {
        parts.push(format!("FAILED: {reason}"));
    }
    let line = format!(
        "{} {}/{}: {}",
        entry.kind,
        entry.namespace,
        entry.name,
        parts.join("; ")
    );
    format!("{}\n", printable(&line, WIDTH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(action: Action, result: Done) -> Entry {
        Entry {
            kind: "Configuration",
            namespace: "n".to_owned(),
            name: "c".to_owned(),
            deleting: false,
            finalizers: vec!["node-1".to_owned()],
            unknown_finalizers: Vec::new(),
            nodes: Vec::new(),
            action,
            result,
        }
    }

    fn report(applied: bool, found: Vec<Entry>) -> Report {
        Report {
            to: "agentless",
            applied,
            configurations: 1,
            instances: 2,
            found,
        }
    }

    #[test]
    fn a_dry_run_says_what_it_would_do_and_how_to_do_it() {
        let mut entry = entry(Action::RemoveFinalizers, Done::Planned);
        entry.deleting = true;
        assert_eq!(
            report(false, vec![entry]).text(),
            "Configuration n/c: finalizers would be removed: node-1; it waits to be deleted\n\
             looked at 1 Configuration and 2 Instances: 1 object to change; nothing was changed, --apply does it\n"
        );
    }

    #[test]
    fn what_was_done_and_what_failed_is_counted() {
        let failed = Done::Failed("no\x1b right".to_owned());
        let found = vec![
            entry(Action::RemoveFinalizers, Done::Yes),
            entry(Action::ClearStatus, failed),
        ];
        let report = report(true, found);
        assert_eq!(report.failures(), 1);
        assert_eq!(
            report.text(),
            "Configuration n/c: finalizers removed: node-1\n\
             Configuration n/c: status removed; FAILED: no\\u{1b} right\n\
             looked at 1 Configuration and 2 Instances: 1 object changed, 1 failed\n"
        );
    }

    #[test]
    fn a_clean_cluster_has_nothing_to_do() {
        for applied in [false, true] {
            assert_eq!(
                report(applied, Vec::new()).text(),
                "looked at 1 Configuration and 2 Instances: nothing to do\n"
            );
        }
    }

    #[test]
    fn json_has_a_stable_form() {
        let report = report(false, vec![entry(Action::RemoveFinalizers, Done::Planned)]);
        let value: serde_json::Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "to": "agentless", "applied": false, "configurations": 1, "instances": 2,
                "found": [{
                    "kind": "Configuration", "namespace": "n", "name": "c", "deleting": false,
                    "finalizers": ["node-1"], "action": "remove_finalizers", "result": "planned",
                }],
            })
        );
    }
}
