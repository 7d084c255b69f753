//! Environment variables of a pod. In: properties of the Instance, names. Out: what each container gets
//! in front of its own variables; what the template sets under the same name wins.
//!
//! Akri's device plugin gives each property twice, plain and with the Instance's hash in upper case. The
//! kubelet does not expand `$(…)` in those, so it must not here.

use serde_json::{Map, Value, json};

use super::pod::array;

/// Whose environment it is.
pub(crate) struct Environment<'a> {
    pub(crate) instance: &'a str,
    pub(crate) cluster: &'a str,
    /// The Instance's hash in upper case.
    pub(crate) suffix: &'a str,
    /// Sorted by name.
    pub(crate) properties: Vec<(&'a str, &'a str)>,
}

impl Environment<'_> {
    /// The variables, sorted within their groups: what names the pod, plain properties, suffixed ones.
    pub(crate) fn variables(&self) -> Vec<Value> {
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        let mut all = vec![
            field("POD_NAME", "metadata.name"),
            field("POD_NAMESPACE", "metadata.namespace"),
            json!({"name": "AKRI_MQTT_INSTANCE", "value": self.instance}),
            json!({"name": "AKRI_MQTT_CLUSTER", "value": self.cluster}),
        ];
        let reserved = all.len();
        let good = self
            .properties
            .iter()
            .filter(|(name, _)| is_variable_name(name));
        for (name, value) in good.clone() {
            let taken = all
                .iter()
                .take(reserved)
                .any(|known| known["name"] == *name);
            if !taken {
                all.push(json!({"name": name, "value": literal(value)}));
            }
        }
        for (name, value) in good {
            let name = format!("{name}_{}", self.suffix);
            all.push(json!({"name": name, "value": literal(value)}));
        }
        all
    }

    /// Properties whose names no environment variable may have.
    pub(crate) fn left_out(&self) -> Vec<&str> {
        let names = self.properties.iter().map(|(name, _)| *name);
        names.filter(|name| !is_variable_name(name)).collect()
    }
}

/// Puts variables in front of a container's own.
pub(crate) fn inject(container: &mut Map<String, Value>, variables: &[Value]) {
    let Some(own) = array(container, "env") else {
        return;
    };
    let ours: Vec<Value> = variables
        .iter()
        .filter(|variable| !own.iter().any(|known| known["name"] == variable["name"]))
        .cloned()
        .collect();
    own.splice(0..0, ours);
}

/// What a container may call a variable, in every version of Kubernetes.
fn is_variable_name(name: &str) -> bool {
    let first = |c: char| c.is_ascii_alphabetic() || matches!(c, '-' | '.' | '_');
    name.starts_with(first) && name.chars().all(|c| first(c) || c.is_ascii_digit())
}

/// A value that means itself: the kubelet reads `$(NAME)` as a reference and `$$` as `$`.
fn literal(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    let mut rest = value.chars().peekable();
    while let Some(c) = rest.next() {
        text.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '(')) {
            text.push('$');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_come_plain_and_suffixed_and_mean_themselves() {
        let environment = Environment {
            instance: "c-35ced2",
            cluster: "0a1b2c3d",
            suffix: "35CED2",
            properties: vec![
                ("A", "1"),
                ("B", "$(A) $$ $x $"),
                ("POD_NAME", "x"),
                ("no name", "2"),
            ],
        };
        let expected = json!([
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "AKRI_MQTT_INSTANCE", "value": "c-35ced2"},
            {"name": "AKRI_MQTT_CLUSTER", "value": "0a1b2c3d"},
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$$(A) $$$ $x $"},
            {"name": "A_35CED2", "value": "1"},
            {"name": "B_35CED2", "value": "$$(A) $$$ $x $"},
            {"name": "POD_NAME_35CED2", "value": "x"},
        ]);
        assert_eq!(Value::Array(environment.variables()), expected);
        assert_eq!(environment.left_out(), ["no name"]);
    }

    #[test]
    fn what_the_template_sets_wins_and_may_refer_to_ours() {
        let mut container = Map::new();
        container.insert(
            "env".to_owned(),
            json!([{"name": "A", "value": "mine"}, {"name": "C", "value": "$(B)"}]),
        );
        inject(
            &mut container,
            &[
                json!({"name": "A", "value": "1"}),
                json!({"name": "B", "value": "2"}),
            ],
        );
        assert_eq!(
            container["env"],
            json!([
                {"name": "B", "value": "2"},
                {"name": "A", "value": "mine"},
                {"name": "C", "value": "$(B)"},
            ])
        );
    }
}
