//! URLs of sinks: what they mean, what is refused, and that no secret is shown.

use super::*;

fn parse(text: &str) -> Result<SinkOptions, OptionError> {
    SinkOptions::parse(text, &|name| {
        (name == "PASSWORD").then(|| "p@ss/w?rd#1 ä".to_owned())
    })
}

fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn name_is_made_of_the_url_without_its_secrets() {
    let name = |url| parse(url).unwrap().name;
    assert_eq!(name("redis://u:secret@r"), "redis://r:6379/0");
    assert_eq!(
        name("rediss://[::1]:7000/3?stream=s"),
        "rediss://[::1]:7000/3"
    );
    assert_eq!(
        name("https://hooks/services/T0/secret"),
        "https://hooks:443"
    );
    assert_eq!(
        name("postgres://u:secret@db/plant"),
        "postgres://db:5432/plant"
    );
    assert_eq!(name("http://h/x?name=alarms"), "alarms");
    #[cfg(feature = "mongodb")]
    assert_eq!(
        name("mongodb://u:se@c,ret@[::1]:1,b:2,c/plant?tls=true"),
        "mongodb://[::1]:1/plant"
    );
}

#[test]
fn defaults_and_common_options_are_read() {
    let sink = parse("redis://r").unwrap();
    assert_eq!((sink.batch, sink.batch_bytes), (500, 1 << 20));
    assert_eq!(sink.linger, Duration::from_millis(10));
    assert!(!sink.from_oldest);
    let sink = parse("redis://r?batch=7&batch-bytes=9&linger=2s&timeout=1m&from=oldest").unwrap();
    assert_eq!((sink.batch, sink.batch_bytes), (7, 9));
    assert_eq!(sink.linger, Duration::from_secs(2));
    assert_eq!(sink.timeout, Duration::from_secs(60));
    assert!(sink.from_oldest);
    assert_eq!(parse("http://h?mode=binary&batch=50").unwrap().batch, 1);
}

#[test]
fn variables_are_filled_in_whatever_characters_they_have() {
    let sink = parse("redis://u:${PASSWORD}@r").unwrap();
    let Kind::Redis(options) = sink.kind else {
        panic!("it is Redis");
    };
    assert_eq!(options.given_password().unwrap().expose(), "p@ss/w?rd#1 ä");
    assert_eq!(
        error("redis://u:${OTHER}@r"),
        "the variable OTHER is not in the environment"
    );
    assert_eq!(error("redis://${PASSWORD"), "a ${ has no }");
}

#[test]
fn nothing_that_is_secret_is_shown() {
    let urls = [
        "redis://u:s3cret@r",
        "http://u:s3cret@h/s3cret",
        "postgres://u:s3cret@db/d",
    ];
    for url in urls {
        let shown = format!("{:?}", parse(url).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
        let urls: SinkUrls = url.parse().unwrap();
        assert!(!format!("{urls:?}").contains("s3cret"));
    }
    for url in [
        "redis://u:s3cret@r/x",
        "redis://u:s3cret@r?batch=0",
        "redis://u:s3cret@r:99999",
        "ftp://u:s3cret@r",
        "http://u:s3cret@h?token-file=/t",
        "postgres://:s3cret@db/d",
        "u:s3cret@r",
    ] {
        assert!(!error(url).contains("s3cret"), "{}", error(url));
    }
}

#[test]
fn what_is_wrong_and_what_is_allowed_is_said() {
    for (url, text) in [
        ("redis:", "it names no host"),
        (
            "ftp://h",
            "the scheme ftp is unknown; allowed: redis, rediss, http, https, postgres, mongodb",
        ),
        (
            "mongodb+srv://h",
            "mongodb+srv is not supported; name the hosts: mongodb://host1,host2/database",
        ),
        ("redis://r?batch=0", "batch: allowed are 1 to 10000"),
        ("redis://r?from=then", "from: allowed are now, oldest"),
        (
            "redis://r?linger=5",
            "linger: allowed: 500ms, 30s, 5m, 24h, 7d",
        ),
        ("redis://r?maxlen=5", "maxlen makes sense with stream= only"),
        ("redis://r?ca-file=/x", "ca-file makes sense with TLS only"),
        ("redis://r?batch=1&batch=2", "batch is there twice"),
        (
            "redis://r/a",
            "the path is the number of a database, such as /0",
        ),
        ("postgres://db/d", "it names no user"),
        (
            "http://h?mode=x",
            "mode: allowed are batch, structured, binary",
        ),
        (
            "redis://u:p@r?password-file=/x",
            "there is a password and a password-file; one of them is enough",
        ),
        (
            "redis://r?name=a b",
            "name: allowed are 200 ASCII letters, digits and -._~:/@[]+",
        ),
    ] {
        assert_eq!(error(url), text, "{url}");
    }
    assert!(error("redis://r?color=red").starts_with(
        "the option color is unknown; allowed: batch, batch-bytes, ca-file, from, linger"
    ));
}

#[cfg(feature = "mongodb")]
#[test]
fn urls_of_mongodb_name_several_hosts_and_what_is_wrong_with_them_is_said() {
    for (url, text) in [
        ("mongodb://", "it names no host"),
        ("mongodb://a,,b", "it names no host"),
        (
            "mongodb://a,b:x",
            "it is no URL such as redis://host: invalid port number",
        ),
        (
            "mongodb://a?ca-file=/x",
            "ca-file makes sense with TLS only",
        ),
        (
            "mongodb://s3cret@a",
            "a user needs a password or password-file, and the other way round",
        ),
        (
            "mongodb://a?password-file=/x",
            "a user needs a password or password-file, and the other way round",
        ),
        (
            "mongodb://a/b.c",
            "the database: allowed are 63 ASCII letters, digits, - and _",
        ),
        (
            "mongodb://a?collection=$c",
            "collection: allowed are 63 ASCII letters, digits, - and _",
        ),
        ("mongodb://a?tls=yes", "tls: allowed are false, true"),
    ] {
        assert_eq!(error(url), text, "{url}");
    }
    for url in [
        "mongodb://u:s3cret@a,b:2/d?authSource=admin&replicaSet=rs0&directConnection=true",
        "mongodb://u@a?password-file=/x&create=false&collection=c",
    ] {
        let shown = format!("{:?}", parse(url).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[cfg(not(feature = "mongodb"))]
#[test]
fn program_without_mongodb_says_so() {
    assert_eq!(
        error("mongodb://a,b/d"),
        "this program was built without MongoDB; akri-mqtt-monitoring-broker has it"
    );
}

#[test]
fn several_are_separated_by_white_space_and_have_names_of_their_own() {
    let all = |texts: &[&str]| SinkOptions::parse_all(texts, &|_| None);
    let sinks = all(&["redis://a\n redis://b", "http://c"]).unwrap();
    let names: Vec<_> = sinks.iter().map(|sink| sink.name.as_str()).collect();
    assert_eq!(
        names,
        ["redis://a:6379/0", "redis://b:6379/0", "http://c:80"]
    );
    assert_eq!(
        all(&["http://c/x http://c/y"]).unwrap_err().to_string(),
        "--sink number 2: another one is called http://c:80 as well; give one of them name="
    );
    assert_eq!(
        all(&["http://c", "x"]).unwrap_err().to_string(),
        "--sink number 2: it is no URL such as redis://host: relative URL without a base"
    );
    assert!(all(&["", " "]).unwrap().is_empty());
}
