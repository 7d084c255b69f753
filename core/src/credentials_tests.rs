//! Whose credentials go to which server, and that no secret is ever printed.

use proptest::prelude::*;

use super::*;
use crate::details::{Failover, ServerUrl};
use crate::identity::ServerName;

fn server(name: &str, urls: &[&str]) -> Server {
    Server {
        name: ServerName::parse(name).unwrap(),
        urls: urls.iter().map(|u| ServerUrl::parse(u).unwrap()).collect(),
        failover: Failover::Ordered,
    }
}

fn values(pairs: &[(&str, &str)]) -> Values {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec()))
        .collect()
}

fn resolve(properties: &[(&str, &str)]) -> Result<Credentials, CredentialError> {
    let values = values(properties);
    let sources = Sources {
        properties: Some(&values),
        ..Sources::default()
    };
    Credentials::resolve(&server("plant-a", &["tcp://a"]), &sources)
}

fn login(username: &str, password: &str) -> Credentials {
    Credentials {
        username: Some(username.to_owned()),
        password: Some(Secret::new(password.as_bytes())),
        ..Credentials::default()
    }
}

#[test]
fn the_servers_own_name_wins_over_the_plain_one() {
    let got = resolve(&[
        ("MQTT_USERNAME", "everyone"),
        ("MQTT_PASSWORD", "p"),
        ("MQTT_USERNAME_PLANT_A", "a"),
        ("MQTT_PASSWORD_PLANT_B", "b"),
    ]);
    assert_eq!(got, Ok(login("a", "p")));
}

#[test]
fn half_a_pair_is_an_error() {
    for (there, missing) in [
        ("MQTT_CLIENT_CERT", "MQTT_CLIENT_KEY"),
        ("MQTT_CLIENT_KEY", "MQTT_CLIENT_CERT"),
        ("MQTT_PASSWORD", "MQTT_USERNAME"),
    ] {
        let error = resolve(&[(there, "s3cret")]).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{there} is set for server plant-a, but {missing} is not; set both or neither")
        );
    }
    assert!(resolve(&[("MQTT_USERNAME", "x")]).is_ok());
}

#[test]
fn properties_win_over_files_pair_by_pair() {
    let properties = values(&[("MQTT_USERNAME", "me")]);
    let files = values(&[
        ("MQTT_USERNAME", "file"),
        ("MQTT_PASSWORD", "secret of the file"),
        ("MQTT_CA_CERT", "ca"),
    ]);
    let sources = Sources {
        properties: Some(&properties),
        files: Some(&files),
        hosts: Hosts::Any,
        legacy: false,
    };
    let got = Credentials::resolve(&server("plant-a", &["tcp://a"]), &sources).unwrap();
    assert_eq!(got.username.as_deref(), Some("me"));
    assert_eq!(
        got.password, None,
        "a Configuration's user name does not get the password of a file"
    );
    assert_eq!(got.ca_cert.as_deref(), Some(&b"ca"[..]));
}

#[test]
fn plain_names_of_files_go_to_listed_hosts_only() {
    let files = values(&[
        ("MQTT_USERNAME", "u"),
        ("MQTT_PASSWORD", "p"),
        ("MQTT_USERNAME_OWN", "o"),
    ]);
    let sources = Sources {
        files: Some(&files),
        hosts: Hosts::Only(BTreeSet::from(["a".to_owned()])),
        ..Sources::default()
    };
    let got = |name, urls: &[&str]| Credentials::resolve(&server(name, urls), &sources).unwrap();
    assert_eq!(got("x", &["tcp://A:1"]), login("u", "p"));
    assert_eq!(got("x", &["tcp://a", "tcp://evil"]), Credentials::default());
    assert_eq!(got("own", &["tcp://b"]).username.as_deref(), Some("o"));
}

#[test]
fn the_names_of_the_earlier_handler_count_in_its_form_only() {
    let properties = values(&[
        ("mqtt_broker_username", "u"),
        ("mqtt_broker_password", "p"),
        ("mqtt_broker_ca", "ca"),
        ("mqtt_broker_certificate", "cert"),
        ("mqtt_broker_key", "key"),
    ]);
    let mut sources = Sources {
        properties: Some(&properties),
        ..Sources::default()
    };
    let server = server("plant-a", &["tcp://a"]);
    assert_eq!(
        Credentials::resolve(&server, &sources),
        Ok(Credentials::default())
    );
    sources.legacy = true;
    let got = Credentials::resolve(&server, &sources).unwrap();
    assert_eq!(
        (got.username.as_deref(), got.client_cert.as_deref()),
        (Some("u"), Some(&b"cert"[..]))
    );
    assert_eq!(got.client_key, Some(Secret::new(b"key")));
}

#[test]
fn a_line_break_at_the_end_is_not_part_of_a_password() {
    assert_eq!(
        resolve(&[("MQTT_USERNAME", "u\r\n"), ("MQTT_PASSWORD", "p\n")]),
        Ok(login("u", "p"))
    );
    assert_eq!(
        resolve(&[("MQTT_USERNAME", "u"), ("MQTT_PASSWORD", " p\n\n")]),
        Ok(login("u", " p\n"))
    );
}

#[test]
fn values_that_mqtt_cannot_carry_are_refused() {
    assert!(matches!(
        resolve(&[("MQTT_USERNAME", "a\0")]),
        Err(CredentialError::NotText { .. })
    ));
    assert!(matches!(
        resolve(&[("MQTT_USERNAME", &"a".repeat(65_536))]),
        Err(CredentialError::TooLong { .. })
    ));
    assert!(matches!(
        resolve(&[("MQTT_CA_CERT", "\n")]),
        Err(CredentialError::Empty { .. })
    ));
}

#[test]
fn no_secret_is_printed() {
    let credentials = resolve(&[
        ("MQTT_USERNAME", "s3cret"),
        ("MQTT_PASSWORD", "s3cret"),
        ("MQTT_CLIENT_CERT", "s3cret"),
        ("MQTT_CLIENT_KEY", "s3cret"),
    ]);
    let shown = format!("{credentials:?}");
    assert!(!shown.contains("s3"), "{shown}");
    assert!(
        !shown.contains(&format!("{:?}", b"s3cret".as_slice())),
        "{shown}"
    );
    let values = values(&[("MQTT_PASSWORD", "s3cret")]);
    let sources = Sources {
        properties: Some(&values),
        ..Sources::default()
    };
    assert!(!format!("{sources:?}").contains("s3"));
}

#[test]
fn an_empty_login_is_none() {
    let empty = [("MQTT_USERNAME", ""), ("MQTT_PASSWORD", "\n")];
    assert_eq!(resolve(&empty), Ok(Credentials::default()));
    assert_eq!(
        resolve(&[("MQTT_USERNAME", ""), ("MQTT_PASSWORD", "token")]),
        Ok(login("", "token"))
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_or_are_shown(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let names = ["MQTT_USERNAME", "MQTT_PASSWORD", "MQTT_CA_CERT", "MQTT_CLIENT_CERT", "MQTT_CLIENT_KEY"];
        let values: Values = names.iter().map(|name| ((*name).to_owned(), value.clone())).collect();
        let sources = Sources { properties: Some(&values), ..Sources::default() };
        let shown = match Credentials::resolve(&server("plant-a", &["tcp://a"]), &sources) {
            Ok(credentials) => format!("{credentials:?}"),
            Err(error) => error.to_string(),
        };
        let text = String::from_utf8_lossy(&value);
        let text = text.trim();
        prop_assert!(text.len() < 4 || !shown.contains(text), "{}", shown);
    }
}

#[test]
fn a_name_with_a_servers_suffix_is_sent_and_is_told_when_its_host_is_not_listed() {
    let files = values(&[
        ("MQTT_USERNAME_PLANT_A", "u"),
        ("MQTT_PASSWORD_PLANT_A", "p"),
        ("MQTT_CA_CERT_PLANT_A", "public"),
    ]);
    let mut sources = Sources {
        files: Some(&files),
        hosts: Hosts::Only(BTreeSet::from(["a".to_owned()])),
        ..Sources::default()
    };
    let elsewhere = server("plant-a", &["tcp://a", "tcp://elsewhere"]);
    let got = Credentials::resolve(&elsewhere, &sources).unwrap();
    assert_eq!(got.username.as_deref(), Some("u"));
    let names = ["MQTT_USERNAME_PLANT_A", "MQTT_PASSWORD_PLANT_A"];
    assert_eq!(sources.unlisted(&elsewhere), names);
    let listed = server("plant-a", &["tcp://a"]);
    assert!(sources.unlisted(&listed).is_empty());
    sources.hosts = Hosts::Any;
    assert!(sources.unlisted(&elsewhere).is_empty());
}
