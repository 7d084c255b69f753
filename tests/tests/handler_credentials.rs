//! TLS and credentials of a real handler with real Mosquittos: password files, ACLs, client certificates; rotation as
//! Kubernetes does it; and everything that can be wrong is seen without its secret.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use akri_mqtt_tests::agent::AgentOptions;
use akri_mqtt_tests::certificates::{Authority, ServerCertificate};
use akri_mqtt_tests::devices::{client_ids, connects, publish};
use akri_mqtt_tests::handler::HandlerProcess;
use akri_mqtt_tests::mosquitto::{Config, Mosquitto};
use akri_mqtt_tests::scene::{CONFIGURATION, Scene, status_of};
use akri_mqtt_tests::secret::MountedSecret;
use serde_json::Value;

const ACL: &str = "user anna\ntopic read robots/#\nuser bert\ntopic read robots/#\nuser robot\ntopic readwrite #\n";
const ROBOT: [&str; 6] = ["-r", "-q", "1", "-u", "robot", "-P"];
const ROBOT_PASSWORD: &str = "s3cret-robot";

/// Users with an ACL, and a TLS port that wants client certificates of the authority.
fn guarded(authority: &Authority) -> Config {
    Config::new()
        .user("anna", "s3cret-anna")
        .user("bert", "s3cret-bert")
        .user("robot", ROBOT_PASSWORD)
        .acl(ACL)
        .tls(authority.server(&["localhost"]), Some(authority.pem()))
}

fn announce(server: &Mosquitto, name: &str) {
    let login = [&ROBOT[..], &[ROBOT_PASSWORD]].concat();
    publish(server.address(), &status_of(name), Some("online"), &login);
}

/// Details for several servers, by name and URLs.
fn details(servers: &[(&str, String)]) -> String {
    let servers: String = servers
        .iter()
        .map(|(name, url)| format!("- {{name: {name}, urls: ['{url}']}}\n"))
        .collect();
    format!(
        "servers:\n{servers}topics:\n- robots/{{device}}/joints\n\
         presence:\n  availability:\n  - topic: robots/{{device}}/status\n  offlineDelay: 300ms\n  reconnectGrace: 1500ms\n\
         limits:\n  publishInterval: 50ms\n"
    )
}

fn tls_url(server: &Mosquitto, host: &str) -> String {
    format!("tls://{host}:{}", server.tls_address().port())
}

fn server_of(handler: &HandlerProcess, name: &str) -> Value {
    let view = handler.presence("?devices=false");
    let servers = view["requests"][0]["servers"].as_array().cloned();
    let mut servers = servers.unwrap_or_default().into_iter();
    servers
        .find(|server| server["name"] == name)
        .unwrap_or_default()
}

fn failures(handler: &HandlerProcess, server: &str, result: &str) -> f64 {
    let name = format!("connects_total{{server=\"{server}\",result=\"{result}\"");
    handler.metric(&name).unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_server_gets_its_own_credentials_by_mutual_tls_with_an_own_authority() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let scene = Scene::start_with(AgentOptions::default(), guarded(&ours));
    let other = Mosquitto::start(guarded(&theirs));
    let handler = scene.handler().await;
    let client = ours.client("anna");
    let their_client = theirs.client("bert");
    announce(&scene.server, "r1");
    announce(&other, "r1");
    let servers = [
        ("plant-a", tls_url(&scene.server, "localhost")),
        ("plant-b", tls_url(&other, "localhost")),
    ];
    let (ca, their_ca) = (ours.pem(), theirs.pem());
    let properties = [
        ("MQTT_USERNAME", "anna"),
        ("MQTT_PASSWORD", "s3cret-anna"),
        ("MQTT_CA_CERT", &ca),
        ("MQTT_CLIENT_CERT", &client.certificate),
        ("MQTT_CLIENT_KEY", &client.key),
        ("MQTT_USERNAME_PLANT_B", "bert"),
        ("MQTT_PASSWORD_PLANT_B", "s3cret-bert"),
        ("MQTT_CA_CERT_PLANT_B", &their_ca),
        ("MQTT_CLIENT_CERT_PLANT_B", &their_client.certificate),
        ("MQTT_CLIENT_KEY_PLANT_B", &their_client.key),
    ];
    scene.configure(&details(&servers), &properties).await;
    scene
        .agent
        .wait_for_devices(CONFIGURATION, &["plant-a/r1", "plant-b/r1"])
        .await;
    assert!(scene.server.log().contains("u'anna'") && !scene.server.log().contains("u'bert'"));
    assert!(other.log().contains("u'bert'") && !other.log().contains("u'anna'"));
    for name in ["plant-a", "plant-b"] {
        let server = server_of(&handler, name);
        assert_eq!(server["connected"], true, "{server}");
        assert_eq!(server["last_error"], Value::Null);
    }
}

fn secret_of<'a>(
    user: &'a str,
    password: &'a str,
    client: &'a ServerCertificate,
    key: &'a str,
    authority: &'a str,
) -> [(&'a str, &'a str); 5] {
    [
        ("MQTT_USERNAME", user),
        ("MQTT_PASSWORD", password),
        ("MQTT_CA_CERT", authority),
        ("MQTT_CLIENT_CERT", &client.certificate),
        ("MQTT_CLIENT_KEY", key),
    ]
}

/// A scene whose handler reads a mounted Secret with anna's credentials; one device is there.
struct Rotating {
    scene: Scene,
    handler: HandlerProcess,
    secret: MountedSecret,
    authority: Authority,
    anna: ServerCertificate,
    bert: ServerCertificate,
}

impl Rotating {
    async fn begin() -> Self {
        let authority = Authority::new("ours");
        let scene = Scene::start_with(AgentOptions::default(), guarded(&authority));
        let (anna, bert) = (authority.client("anna"), authority.client("bert"));
        let ca = authority.pem();
        let first = secret_of("anna", "s3cret-anna", &anna, &anna.key, &ca);
        let secret = MountedSecret::new(&first);
        let path = secret.path().display().to_string();
        let flags = [
            "--credentials-dir",
            &path,
            "--credentials-hosts",
            "localhost",
        ];
        let handler = scene.registered(scene.flags().with(&flags)).await;
        announce(&scene.server, "r1");
        let servers = [("plant-a", tls_url(&scene.server, "localhost"))];
        scene.configure(&details(&servers), &[]).await;
        let devices = ["plant-a/r1"];
        scene.agent.wait_for_devices(CONFIGURATION, &devices).await;
        Self {
            scene,
            handler,
            secret,
            authority,
            anna,
            bert,
        }
    }

    fn swap(&mut self, user: &str, client: &ServerCertificate, key: &str) {
        let (password, ca) = (format!("s3cret-{user}"), self.authority.pem());
        let values = secret_of(user, &password, client, key, &ca);
        self.secret.swap(&values);
    }

    async fn unused(&self, sessions: f64) {
        self.handler
            .wait_for("so many sessions do not use the files", |handler| {
                handler.metric("credentials_unused{reason=\"wrong\"") == Some(sessions)
            })
            .await;
    }

    fn connects(&self) -> usize {
        connects(&self.scene.server, "akri-mqtt-")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_cut_or_does_not_fit_together_is_not_taken_and_everybody_can_see_why() {
    let mut rotating = Rotating::begin().await;
    let (anna, bert) = (rotating.anna.clone(), rotating.bert.clone());
    // A certificate that ends in the middle, and a key that belongs to another certificate.
    let mut cut = bert.clone();
    cut.certificate.truncate(cut.certificate.len() / 2);
    for (client, key) in [(&cut, &bert.key), (&bert, &anna.key)] {
        rotating.swap("bert", client, key);
        rotating.unused(1.0).await;
        let server = server_of(&rotating.handler, "plant-a");
        let why = server["credentials_error"].as_str().unwrap();
        assert!(why.contains("MQTT_CLIENT_CERT"), "{why}");
        assert_eq!(server["connected"], true);
        let said = "changed credentials for plant-a are not used";
        rotating
            .handler
            .wait_for("readyz says so", |handler| {
                let (ready, text) = handler.get("/readyz");
                ready == 200 && text.contains(said)
            })
            .await;
        rotating
            .handler
            .wait_for_log("changed credentials cannot be used")
            .await;
        rotating.swap("anna", &anna, &anna.key);
        rotating.unused(0.0).await;
    }
    assert_eq!(rotating.connects(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_secret_reconnects_with_the_same_client_id_and_changes_no_device() {
    let mut rotating = Rotating::begin().await;
    let bert = rotating.bert.clone();
    assert_eq!(rotating.connects(), 1);
    let rotated = jiff::Timestamp::now();
    rotating.swap("bert", &bert, &bert.key);
    let Rotating { scene, handler, .. } = &rotating;
    handler
        .wait_for("it is connected as bert", |handler| {
            scene.server.log().contains("u'bert'")
                && server_of(handler, "plant-a")["connected"] == true
        })
        .await;
    assert_eq!(client_ids(&scene.server, "akri-mqtt-").len(), 1);
    let changes = failures(handler, "plant-a", "credentials_changed");
    assert_eq!((rotating.connects(), changes), (2, 1.0));
    let after = handler.presence("/plant-a/r1")["requests"][0].clone();
    let since: jiff::Timestamp = after["since"].as_str().unwrap().parse().unwrap();
    assert!(after["state"] == "online" && since < rotated, "{after}");
    assert!(!scene.agent.has_deleted("plant-a/r1"));
    assert_eq!(scene.agent.ended(), 0);
    assert!(!handler.log().contains("s3cret") && !handler.log().contains("PRIVATE KEY"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_read_leave_the_credentials_that_there_are() {
    let scene = Scene::start_with(
        AgentOptions::default(),
        Config::new().user("anna", "s3cret-anna"),
    );
    let parent = tempfile::tempdir().unwrap();
    let (path, away) = (parent.path().join("secret"), parent.path().join("away"));
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("MQTT_USERNAME"), "anna").unwrap();
    std::fs::write(path.join("MQTT_PASSWORD"), "s3cret-anna\n").unwrap();
    let directory = path.display().to_string();
    let flags = [
        "--credentials-dir",
        &directory,
        "--credentials-hosts",
        "127.0.0.1",
    ];
    let handler = scene.registered(scene.flags().with(&flags)).await;
    scene.configure(&scene.details(), &[]).await;
    let unreadable = |value: f64| {
        move |handler: &HandlerProcess| {
            handler.metric("credentials_unused{reason=\"unreadable\"") == Some(value)
        }
    };
    std::fs::rename(&path, &away).unwrap();
    handler.wait_for("it is noticed", unreadable(1.0)).await;
    let (ready, text) = handler.get("/readyz");
    assert!(
        ready == 200 && text.contains("what was read before holds"),
        "{text}"
    );
    // The server is asked again with what was read before.
    let before = connects(&scene.server, "akri-mqtt-");
    let mut scene = scene;
    scene.server.kill();
    scene.server.restart();
    handler
        .wait_for("it has connected again", |_| {
            connects(&scene.server, "akri-mqtt-") > before
        })
        .await;
    std::fs::rename(&away, &path).unwrap();
    handler.wait_for("it is well again", unreadable(0.0)).await;
}

/// What is wrong with one server: its name, the label of the failure, and a word of the sentence.
const WRONG: [(&str, &str, &str); 6] = [
    ("wrong-password", "not_authorised", "MQTT_PASSWORD"),
    ("expired-client", "client_certificate", "MQTT_CLIENT_CERT"),
    ("no-client", "client_certificate", "MQTT_CLIENT_CERT"),
    (
        "other-authority",
        "certificate_unknown_issuer",
        "MQTT_CA_CERT",
    ),
    ("other-host", "certificate_host", "names other hosts"),
    ("expired-server", "certificate_expired", "expired"),
];

/// The properties of a Configuration whose servers are wrong as their names say, and one that is good.
fn mixed(ours: &Authority, theirs: &Authority) -> Vec<(String, String)> {
    let (client, old) = (ours.client("anna"), ours.expired_client("anna"));
    let mut properties = vec![
        ("MQTT_USERNAME".to_owned(), "anna".to_owned()),
        ("MQTT_PASSWORD".to_owned(), "s3cret-anna".to_owned()),
        ("MQTT_USERNAME_WRONG_PASSWORD".to_owned(), "anna".to_owned()),
        (
            "MQTT_PASSWORD_WRONG_PASSWORD".to_owned(),
            "wr0ng-s3cret".to_owned(),
        ),
        ("MQTT_CA_CERT_OTHER_AUTHORITY".to_owned(), theirs.pem()),
    ];
    let clients = [
        ("GOOD", &client),
        ("WRONG_PASSWORD", &client),
        ("OTHER_AUTHORITY", &client),
        ("OTHER_HOST", &client),
        ("EXPIRED_CLIENT", &old),
    ];
    for (suffix, client) in clients {
        let certificate = client.certificate.clone();
        properties.push((format!("MQTT_CLIENT_CERT_{suffix}"), certificate));
        properties.push((format!("MQTT_CLIENT_KEY_{suffix}"), client.key.clone()));
    }
    properties
}

async fn is_seen(handler: &HandlerProcess, (server, result, word): (&str, &str, &str)) {
    handler
        .wait_for(&format!("{server} is refused"), |handler| {
            let view = server_of(handler, server);
            let said = view["last_error"].as_str().unwrap_or_default().to_owned();
            failures(handler, server, result) > 0.0 && said.contains(word)
        })
        .await;
    let view = server_of(handler, server);
    assert!(
        view["connected"] == false && view["since"].is_string(),
        "{view}"
    );
    let connected = format!("connected{{server=\"{server}\"");
    assert_eq!(handler.metric(&connected), Some(0.0));
    handler.wait_for_log(&format!("server={server}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_credentials_and_certificates_is_seen_everywhere_and_holds_nobody_up() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let scene = Scene::start_with(AgentOptions::default(), guarded(&ours));
    let expired = Mosquitto::start(Config::new().tls(ours.expired_server(&["localhost"]), None));
    let trusted = scene.directory().join("system.pem");
    std::fs::write(&trusted, ours.pem()).unwrap();
    let mut flags = scene.flags();
    // The system trusts our authority: who names another one trusts that one only.
    let trusted = ("SSL_CERT_FILE".to_owned(), trusted.display().to_string());
    flags.environment.push(trusted);
    let handler = scene.registered(flags).await;
    announce(&scene.server, "r1");
    let secure = tls_url(&scene.server, "localhost");
    let servers = [
        ("good", secure.clone()),
        ("wrong-password", secure.clone()),
        ("expired-client", secure.clone()),
        ("no-client", secure.clone()),
        ("other-authority", secure),
        ("other-host", tls_url(&scene.server, "127.0.0.1")),
        ("expired-server", tls_url(&expired, "localhost")),
    ];
    let properties = mixed(&ours, &theirs);
    let properties: Vec<(&str, &str)> = properties.iter().map(|(n, v)| (&**n, &**v)).collect();
    scene.configure(&details(&servers), &properties).await;
    let devices = ["good/r1"];
    scene.agent.wait_for_devices(CONFIGURATION, &devices).await;
    for wrong in WRONG {
        is_seen(&handler, wrong).await;
    }
    let (ready, text) = handler.get("/readyz");
    assert_eq!(ready, 200, "{text}");
    let more = "; and 2 servers more";
    assert!(
        text.contains("is not connected: ") && text.contains(more),
        "{text}"
    );
    let said = [
        handler.log(),
        text,
        handler.get("/metrics").1,
        handler.get("/v1/presence").1,
    ];
    for secret in ["s3cret", "PRIVATE KEY", "BEGIN CERTIFICATE"] {
        assert!(!said.iter().any(|said| said.contains(secret)), "{secret}");
    }
}
