//! Reads `--sink` URLs. In: text, and the environment for `${NAME}` in it. Out: what a sink is, with a name
//! that has no secret in it, or what is wrong and what is allowed.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use super::http::HttpOptions;
#[cfg(feature = "mongodb")]
use super::mongodb::MongodbOptions;
use super::postgres::PostgresOptions;
use super::query::Query;
use super::redis::RedisOptions;
use super::secret::Secret;

/// The longest name of a sink.
const MOST_NAME: usize = 200;
const DEFAULT_BATCH: usize = 500;
const MOST_BATCH: usize = 10_000;
const DEFAULT_BATCH_BYTES: usize = 1 << 20;
const MOST_BATCH_BYTES: usize = 64 << 20;
/// A scheme that not every program has.
const MONGODB: &str = "mongodb";

/// What is wrong with a `--sink`; no secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(pub String);

/// The value of a `--sink` as it was given: one URL or several, with their secrets.
#[derive(Clone)]
pub struct SinkUrls(Secret);

impl FromStr for SinkUrls {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(Secret::new(text.to_owned())))
    }
}

impl fmt::Debug for SinkUrls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SinkUrls {
    /// Reads them all, with the process's environment.
    ///
    /// # Errors
    /// Which one is wrong, by its number, and why.
    pub fn parse_all(all: &[Self]) -> Result<Vec<SinkOptions>, OptionError> {
        let texts: Vec<_> = all.iter().map(|urls| urls.0.expose()).collect();
        SinkOptions::parse_all(&texts, &|name| std::env::var(name).ok())
    }
}

/// A sink.
#[derive(Clone, Debug)]
pub struct SinkOptions {
    /// Under which it is known in metrics, logs and the store.
    pub name: String,
    /// Messages in a batch.
    pub batch: usize,
    /// And bytes; one message may have more.
    pub batch_bytes: usize,
    /// How long a batch waits for more messages.
    pub linger: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// A new sink begins with the oldest stored message, not with the next.
    pub from_oldest: bool,
    /// Where to.
    pub kind: Kind,
}

/// Where to.
#[derive(Clone, Debug)]
pub enum Kind {
    /// Redis.
    Redis(RedisOptions),
    /// CloudEvents over HTTP.
    Http(HttpOptions),
    /// PostgreSQL.
    Postgres(PostgresOptions),
    /// MongoDB.
    #[cfg(feature = "mongodb")]
    Mongodb(MongodbOptions),
}

impl SinkOptions {
    /// Reads one URL.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(
        text: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, OptionError> {
        #[cfg_attr(
            not(feature = "mongodb"),
            expect(unused_variables, reason = "only MongoDB's URLs have others")
        )]
        let (url, others) = urls(&substitute(text, environment)?)?;
        let mut query = Query::new(&url)?;
        let (kind, own) = match url.scheme() {
            "redis" | "rediss" => {
                let (options, name) = RedisOptions::read(&url, &mut query)?;
                (Kind::Redis(options), name)
            }
            "http" | "https" => {
                let (options, name) = HttpOptions::read(&url, &mut query)?;
                (Kind::Http(options), name)
            }
            "postgres" | "postgresql" => {
                let (options, name) = PostgresOptions::read(&url, &mut query)?;
                (Kind::Postgres(options), name)
            }
            #[cfg(feature = "mongodb")]
            MONGODB => {
                let (options, name) = MongodbOptions::read(&url, &others, &mut query)?;
                (Kind::Mongodb(options), name)
            }
            other => return Err(OptionError(unknown(other))),
        };
        let single = matches!(&kind, Kind::Http(options) if !options.is_batch());
        let batch = query.number("batch", DEFAULT_BATCH, 1..=MOST_BATCH)?;
        let options = Self {
            name: name(query.text("name").unwrap_or(own))?,
            batch: if single { 1 } else { batch },
            batch_bytes: query.number("batch-bytes", DEFAULT_BATCH_BYTES, 1..=MOST_BATCH_BYTES)?,
            linger: query.time("linger", Duration::from_millis(10))?,
            timeout: query.time("timeout", Duration::from_secs(30))?,
            from_oldest: query.choice("from", &["now", "oldest"])? == "oldest",
            kind,
        };
        query.finish()?;
        Ok(options)
    }

    /// Reads URLs that are separated by white space; two sinks must not have one name.
    ///
    /// # Errors
    /// Which one is wrong, by its number, and why.
    pub fn parse_all(
        texts: &[&str],
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Vec<Self>, OptionError> {
        let mut sinks: Vec<Self> = Vec::new();
        let urls = texts.iter().flat_map(|text| text.split_whitespace());
        for (number, url) in (1..).zip(urls) {
            let sink = Self::parse(url, environment)
                .map_err(|error| OptionError(format!("--sink number {number}: {error}")))?;
            if sinks.iter().any(|other| other.name == sink.name) {
                return Err(OptionError(format!(
                    "--sink number {number}: another one is called {} as well; give one of them name=",
                    sink.name
                )));
            }
            sinks.push(sink);
        }
        Ok(sinks)
    }
}

fn unknown(scheme: &str) -> String {
    match scheme {
        MONGODB => {
            "this program was built without MongoDB; akri-mqtt-monitoring-broker has it".to_owned()
        }
        "mongodb+srv" => {
            "mongodb+srv is not supported; name the hosts: mongodb://host1,host2/database"
                .to_owned()
        }
        _ => format!(
            "the scheme {scheme} is unknown; allowed: redis, rediss, http, https, postgres, mongodb"
        ),
    }
}

/// The URL with its first host, and one for each further host: MongoDB's URLs may name several, which is no form
/// that a URL has.
fn urls(text: &str) -> Result<(Url, Vec<Url>), OptionError> {
    let parse = |text: &str| {
        Url::parse(text)
            .map_err(|error| OptionError(format!("it is no URL such as redis://host: {error}")))
    };
    let Some(rest) = text.strip_prefix("mongodb://") else {
        return Ok((parse(text)?, Vec::new()));
    };
    let (authority, rest) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let hosts = authority
        .rsplit_once('@')
        .map_or(authority, |(_, hosts)| hosts);
    let login = authority.strip_suffix(hosts).unwrap_or_default();
    let mut hosts = hosts.split(',');
    let first = hosts.next().unwrap_or_default();
    let others = hosts.map(|host| parse(&format!("mongodb://{host}")));
    Ok((
        parse(&format!("mongodb://{login}{first}{rest}"))?,
        others.collect::<Result<_, _>>()?,
    ))
}

/// The user of the URL.
///
/// # Errors
/// When it is no UTF-8.
pub fn user(url: &Url) -> Result<Option<String>, OptionError> {
    Some(url.username())
        .filter(|user| !user.is_empty())
        .map(decoded)
        .transpose()
}

/// A part of the URL without its percent-encoding.
///
/// # Errors
/// When it is no UTF-8.
pub fn decoded(part: &str) -> Result<String, OptionError> {
    let text = percent_decode_str(part).decode_utf8();
    let text = text.map_err(|_| OptionError("a part of it is no UTF-8".to_owned()))?;
    Ok(text.into_owned())
}

fn name(text: String) -> Result<String, OptionError> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~:/@[]+".contains(c);
    if text.len() <= MOST_NAME && text.chars().all(is_allowed) {
        return Ok(text);
    }
    Err(OptionError(format!(
        "name: allowed are {MOST_NAME} ASCII letters, digits and -._~:/@[]+"
    )))
}

/// Replaces each `${NAME}` by the variable's value, percent-encoded, so that any password fits.
fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<String, OptionError> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("${") {
        let (variable, after) = after
            .split_once('}')
            .ok_or_else(|| OptionError("a ${ has no }".to_owned()))?;
        let value = environment(variable).ok_or_else(|| {
            OptionError(format!("the variable {variable} is not in the environment"))
        })?;
        out.push_str(before);
        out.extend(utf8_percent_encode(&value, NON_ALPHANUMERIC));
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
