use serde_json::json;

use super::*;

fn properties(json: serde_json::Value) -> Vec<DiscoveryProperty> {
    serde_json::from_value(json).unwrap()
}

fn secret(name: &str, selector: serde_json::Value) -> serde_json::Value {
    json!({"name": name, "valueFrom": {"secretKeyRef": selector}})
}

fn object(kind: Kind, namespace: &str, name: &str) -> Object {
    Object {
        kind,
        namespace: namespace.into(),
        name: name.into(),
    }
}

fn present(values: &[(&str, &str)]) -> Observed {
    let owned =
        |(key, value): &(&str, &str)| ((*key).to_owned(), Bytes::copy_from_slice(value.as_bytes()));
    Observed::Present(Arc::new(Data(values.iter().map(owned).collect())))
}

struct Case {
    allowed: BTreeSet<String>,
    known: Known,
}

impl Case {
    fn new(known: &[(Object, Observed)]) -> Self {
        Self {
            allowed: BTreeSet::from(["shared".to_owned()]),
            known: known.iter().cloned().collect(),
        }
    }

    fn rules(&self) -> Rules<'_> {
        Rules {
            namespace: "plant",
            allowed: &self.allowed,
        }
    }

    fn resolve(&self, json: serde_json::Value) -> Result<Resolved, Unresolved> {
        resolve(&properties(json), self.rules(), &self.known)
    }

    fn why(&self, json: serde_json::Value) -> String {
        match self.resolve(json) {
            Err(Unresolved::Because(why)) => why,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn values_and_references_are_resolved_in_the_own_namespace() {
    let case = Case::new(&[
        (
            object(Kind::Secret, "plant", "s"),
            present(&[("p", "pass")]),
        ),
        (
            object(Kind::ConfigMap, "shared", "c"),
            present(&[("k", "v")]),
        ),
    ]);
    let asked = json!([
        {"name": "A", "value": "a"},
        secret("B", json!({"name": "s", "key": "p"})),
        secret("B2", json!({"name": "s", "key": "p", "namespace": ""})),
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "namespace": "shared"}}},
        secret("D", json!({"name": "s", "key": "missing", "optional": true})),
        {"name": "_e1", "value": "twice"},
        {"name": "_e1", "value": "last"},
    ]);
    let resolved = case.resolve(asked.clone()).unwrap();
    let values: Vec<_> = resolved
        .values()
        .map(|(name, value)| (name, &value[..]))
        .collect();
    let expected: [(&str, &[u8]); 5] = [
        ("A", b"a"),
        ("B", b"pass"),
        ("B2", b"pass"),
        ("C", b"v"),
        ("_e1", b"last"),
    ];
    assert_eq!(values, expected);
    let needed: Vec<_> = case.known.keys().cloned().collect();
    let named = objects(&properties(asked), case.rules());
    assert_eq!(named.into_iter().collect::<Vec<_>>(), needed);
}

#[test]
fn reasons_say_what_is_wrong_and_which_value_of_the_chart_mends_it() {
    let case = Case::new(&[
        (object(Kind::Secret, "plant", "absent"), Observed::Absent),
        (
            object(Kind::Secret, "plant", "forbidden"),
            Observed::Forbidden,
        ),
        (
            object(Kind::Secret, "plant", "s"),
            present(&[("p", "hunter2")]),
        ),
        (
            object(Kind::Secret, "plant", "down"),
            Observed::Failed("no answer".to_owned()),
        ),
    ]);
    let cases = [
        (
            secret("P", json!({"name": "absent", "key": "p"})),
            "discoveryProperties: P: there is no Secret plant/absent",
        ),
        (
            secret("P", json!({"name": "s", "key": "q"})),
            "discoveryProperties: P: Secret plant/s has no key \"q\"",
        ),
        (
            secret("P", json!({"name": "s"})),
            "discoveryProperties: P: the reference to Secret plant/s has no key",
        ),
        (
            secret(
                "P",
                json!({"name": "forbidden", "key": "p", "optional": true}),
            ),
            "discoveryProperties: P: the controller may not read Secret plant/forbidden: add plant to the chart's value secretNamespaces",
        ),
        (
            secret("P", json!({"name": "down", "key": "p"})),
            "discoveryProperties: P: Secret plant/down cannot be read: no answer",
        ),
        (
            json!({"name": "P"}),
            "discoveryProperties: P: it has neither value nor valueFrom",
        ),
        (
            json!({"name": "1P", "value": "x"}),
            "discoveryProperties: 1P: a name has letters, digits and _, and does not begin with a digit",
        ),
    ];
    for (property, expected) in cases {
        assert_eq!(case.why(json!([property])), expected);
    }
    let elsewhere = case.why(json!([secret(
        "P",
        json!({"name": "s", "key": "p", "namespace": "other"})
    )]));
    assert!(
        elsewhere.contains("controller.allowSecretNamespaces"),
        "{elsewhere}"
    );
}

#[test]
fn names_that_would_lead_elsewhere_in_a_url_are_refused_and_never_read() {
    let case = Case::new(&[]);
    for name in [
        "../../other/secrets/s",
        "a?b",
        "a,metadata.namespace=b",
        "",
        "A",
        ".",
        "a..b",
        "-a",
    ] {
        let property = json!([secret("P", json!({"name": name, "key": "p"}))]);
        let why = case.why(property.clone());
        assert!(why.contains("no name that Kubernetes allows"), "{why}");
        assert!(objects(&properties(property), case.rules()).is_empty());
    }
    let property = json!([secret(
        "P",
        json!({"name": "s", "key": "p", "namespace": "a/b"})
    )]);
    assert!(objects(&properties(property.clone()), case.rules()).is_empty());
    assert!(case.why(property).contains("namespace is no name"));
}

#[test]
fn what_was_not_read_yet_is_waited_for_unless_something_else_is_wrong_anyway() {
    let case = Case::new(&[]);
    let unread = secret("P", json!({"name": "s", "key": "p", "optional": true}));
    assert_eq!(case.resolve(json!([unread])), Err(Unresolved::Pending));
    let why = case.why(json!([unread, {"name": "", "value": "x"}]));
    assert!(why.contains("a name has"), "{why}");
}

#[test]
fn no_value_is_shown_or_repeated() {
    let secret_value = "hunter2-hunter2";
    let case = Case::new(&[(
        object(Kind::Secret, "plant", "s"),
        present(&[("p", secret_value), ("q", "ab")]),
    )]);
    let resolved = case
        .resolve(json!([
            secret("P", json!({"name": "s", "key": "p"})),
            secret("Q", json!({"name": "s", "key": "q"})),
            {"name": "R", "value": "robots"},
        ]))
        .unwrap();
    for shown in [format!("{resolved:?}"), format!("{:?}", case.known)] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let words = format!("cannot log in with {secret_value} about robots");
    assert_eq!(resolved.redact(&words), "cannot log in with … about robots");
}

#[test]
fn key_of_many_lines_and_value_within_another_are_not_repeated_either() {
    let case = Case::new(&[(
        object(Kind::Secret, "plant", "s"),
        present(&[
            ("key", "-----BEGIN-----\nQUJDREVG\n-----END-----\n"),
            ("long", "abcdefghij"),
            ("short", "cdefgh"),
        ]),
    )]);
    let from = |name, key| secret(name, json!({"name": "s", "key": key}));
    let resolved = case
        .resolve(json!([
            from("K", "key"),
            from("A", "short"),
            from("B", "long")
        ]))
        .unwrap();
    let words = "bad key: -----BEGIN----- QUJDREVG -----END-----, bad password: abcdefghij";
    let redacted = resolved.redact(words);
    assert_eq!(redacted, "bad key: … … …, bad password: …");
}

#[test]
fn values_that_do_not_fit_into_a_message_are_refused() {
    let large = "x".repeat(MAX_VALUES + 1);
    let why = Case::new(&[]).why(json!([{"name": "P", "value": large}]));
    assert!(why.contains("may have 2097152"), "{why}");
}
