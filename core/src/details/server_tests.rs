//! URLs in all their forms, and what is none.

use super::*;

fn url(text: &str) -> Result<String, UrlError> {
    ServerUrl::parse(text).map(|url| url.to_string())
}

#[test]
fn every_scheme_has_its_default_port() {
    for (text, canonical) in [
        ("tcp://a", "tcp://a:1883"),
        ("mqtt://a", "tcp://a:1883"),
        ("ssl://a", "ssl://a:8883"),
        ("tls://a", "ssl://a:8883"),
        ("MQTTS://A.Example.", "ssl://a.example.:8883"),
        ("ws://a", "ws://a:80/"),
        ("wss://a/mqtt", "wss://a:443/mqtt"),
        ("tcp://10.0.0.5:1884/", "tcp://10.0.0.5:1884"),
        ("tcp://[::1]", "tcp://[::1]:1883"),
        ("ws://[2001:DB8:0:0::1]:8080/x", "ws://[2001:db8::1]:8080/x"),
    ] {
        assert_eq!(url(text).as_deref(), Ok(canonical), "{text}");
        assert_eq!(url(canonical).as_deref(), Ok(canonical), "{canonical}");
    }
}

#[test]
fn credentials_are_refused_and_never_repeated() {
    for text in [
        "tcp://user:s3cret@a:1883",
        "tcp://s3cret@a",
        "foo://x:s3cret@a",
        "tcp://u:s3/cret@a",
        "ws://a/mqtt?token=s3cret",
        "s3cret@a:1883",
        "tcp://u:p@[::1]:1883/s3cret",
    ] {
        let message = ServerUrl::parse(text).unwrap_err().to_string();
        assert!(!message.contains("s3"), "{message}");
        assert!(message.contains("discoveryProperties"), "{message}");
    }
}

#[test]
fn what_is_no_url_is_refused_with_its_reason() {
    assert_eq!(url("10.0.0.5:1883"), Err(UrlError::NoScheme));
    assert_eq!(url("http://a"), Err(UrlError::UnknownScheme("http".into())));
    assert_eq!(url("tcp://"), Err(UrlError::NoHost));
    assert_eq!(url("tcp://:1883"), Err(UrlError::NoHost));
    assert_eq!(url("tcp://::1:1883"), Err(UrlError::Ipv6));
    assert_eq!(url("tcp://[::1"), Err(UrlError::Ipv6));
    assert_eq!(url("tcp://[zz]"), Err(UrlError::Host("zz".into())));
    assert_eq!(url("tcp://a b"), Err(UrlError::Host("a b".into())));
    assert_eq!(
        url("tcp://10.0.0.256"),
        Err(UrlError::Host("10.0.0.256".into()))
    );
    assert_eq!(url("tcp://a,tcp"), Err(UrlError::Host("a,tcp".into())));
    for port in ["", "0", "65536", "+1", "s3cret", "018830"] {
        assert_eq!(url(&format!("tcp://a:{port}")), Err(UrlError::Port));
    }
    assert_eq!(url("tcp://a/x"), Err(UrlError::Path("tcp")));
    assert_eq!(url("ws://a/x y"), Err(UrlError::BadPath));
}
