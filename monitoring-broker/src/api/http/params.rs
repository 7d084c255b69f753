//! Query parameters. In: the query of a URL and the names that are allowed. Out: values, or an error that names
//! the parameter, what was found and what is allowed.
//! `+` stands for itself, not for a space: topic filters and time zones have it.

use std::str::FromStr;

use akri_mqtt_core::topic::TopicFilter;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use crate::api::service::{self, ServiceError};
use crate::devices::State;

/// The parameters of a request, each at most once, except those that may repeat.
pub(super) struct Params {
    pairs: Vec<(&'static str, String)>,
}

impl Params {
    /// Reads a query. `repeated` names those of the allowed parameters that may stand there several times.
    pub(super) fn parse(
        query: Option<&str>,
        allowed: &[&'static str],
        repeated: &[&str],
    ) -> Result<Self, ServiceError> {
        let mut pairs: Vec<(&'static str, String)> = Vec::new();
        let parts = query.unwrap_or_default().split('&');
        for part in parts.filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let Some(known) = allowed.iter().find(|known| **known == name) else {
                return Err(unknown(&name, allowed));
            };
            if pairs.iter().any(|(before, _)| before == known) && !repeated.contains(known) {
                let why = "found it twice, allowed: once";
                return Err(ServiceError::invalid(*known, why));
            }
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| {
                let why = "found bytes that are not UTF-8, allowed: percent-encoded UTF-8";
                ServiceError::invalid(*known, why)
            })?;
            pairs.push((known, value.into_owned()));
        }
        Ok(Self { pairs })
    }

    /// A value; none if it is missing.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// All values of a parameter that may repeat.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.pairs.iter().filter(move |(known, _)| *known == name);
        named.map(|(_, value)| value.as_str())
    }

    /// A value that counts as missing when it is empty.
    pub(super) fn filled(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The parameter `topic`.
    pub(super) fn topic(&self) -> Result<Option<TopicFilter>, ServiceError> {
        service::topic_filter("topic", self.get("topic").unwrap_or_default())
    }

    /// A time.
    pub(super) fn time(&self, name: &str) -> Result<Option<Timestamp>, ServiceError> {
        let value = self.filled(name);
        value.map(|value| service::time(name, value)).transpose()
    }

    /// A bound of numbers.
    pub(super) fn bound(&self, name: &str) -> Result<Option<f64>, ServiceError> {
        let Some(bound) = self.parsed::<f64>(name, "a number")? else {
            return Ok(None);
        };
        service::bound(name, bound).map(Some)
    }

    /// The parameter `limit`; missing: the default.
    pub(super) fn limit(&self) -> Result<usize, ServiceError> {
        let allowed = format!("1 to {}", service::MOST_LIMIT);
        match self.parsed::<usize>("limit", &allowed)? {
            Some(0) => Err(ServiceError::invalid(
                "limit",
                format!("found 0, allowed: {allowed}"),
            )),
            limit => service::limit("limit", limit.unwrap_or(0)),
        }
    }

    /// The parameter `state` of devices.
    pub(super) fn state(&self) -> Result<Option<State>, ServiceError> {
        match self.filled("state") {
            None => Ok(None),
            Some("online") => Ok(Some(State::Online)),
            Some("offline") => Ok(Some(State::Offline)),
            Some("unknown") => Ok(Some(State::Unknown)),
            Some(value) => Err(wrong("state", value, "online, offline or unknown")),
        }
    }

    /// The parameter `order`; missing: newest first.
    pub(super) fn is_ascending(&self) -> Result<bool, ServiceError> {
        self.choice("order", ["desc", "asc"])
    }

    /// Whether the second of two words was chosen; missing: no.
    pub(super) fn choice(&self, name: &str, words: [&str; 2]) -> Result<bool, ServiceError> {
        let [first, second] = words;
        match self.filled(name) {
            None => Ok(false),
            Some(value) if value == first => Ok(false),
            Some(value) if value == second => Ok(true),
            Some(value) => Err(wrong(name, value, &format!("{first} or {second}"))),
        }
    }

    fn parsed<T: FromStr>(&self, name: &str, allowed: &str) -> Result<Option<T>, ServiceError> {
        let Some(value) = self.filled(name) else {
            return Ok(None);
        };
        let parsed = value.parse().map_err(|_| wrong(name, value, allowed))?;
        Ok(Some(parsed))
    }
}

fn wrong(name: &str, value: &str, allowed: &str) -> ServiceError {
    let found = service::shorten(value);
    ServiceError::invalid(name, format!("found {found:?}, allowed: {allowed}"))
}

fn unknown(name: &str, allowed: &[&str]) -> ServiceError {
    let allowed = if allowed.is_empty() {
        "none".to_owned()
    } else {
        allowed.join(", ")
    };
    let why = format!("there is no such parameter here, allowed: {allowed}");
    ServiceError::invalid(service::shorten(name), why)
}
