//! The options behind the `?` of a sink's URL. In: the URL. Out: checked values, or what is allowed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::net::{Endpoint, Tls};
use super::options::{OptionError, decoded};
use super::secret::{Credential, Secret};

/// The options behind the `?`. Each is taken out once; what is left is unknown.
pub struct Query {
    left: BTreeMap<String, String>,
    asked: Vec<&'static str>,
}

impl Query {
    /// All of them.
    ///
    /// # Errors
    /// When one is there twice.
    pub fn new(url: &Url) -> Result<Self, OptionError> {
        let mut left = BTreeMap::new();
        for (key, value) in url.query_pairs() {
            if left.insert(key.to_string(), value.into_owned()).is_some() {
                return Err(OptionError(format!("{key} is there twice")));
            }
        }
        Ok(Self {
            left,
            asked: Vec::new(),
        })
    }

    /// An option that is not empty.
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        self.asked.push(key);
        self.left.remove(key).filter(|value| !value.is_empty())
    }

    /// A whole number.
    ///
    /// # Errors
    /// When it is none of the range.
    pub fn number(
        &mut self,
        key: &'static str,
        default: usize,
        range: std::ops::RangeInclusive<usize>,
    ) -> Result<usize, OptionError> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        let number = text.parse().ok().filter(|number| range.contains(number));
        let (least, most) = range.into_inner();
        number.ok_or_else(|| OptionError(format!("{key}: allowed are {least} to {most}")))
    }

    /// One of these; the first is the default.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn choice(
        &mut self,
        key: &'static str,
        choices: &[&'static str],
    ) -> Result<&'static str, OptionError> {
        let text = self.text(key);
        let found = match &text {
            None => choices.first(),
            Some(text) => choices.iter().find(|choice| *choice == text),
        };
        let allowed = || OptionError(format!("{key}: allowed are {}", choices.join(", ")));
        found.copied().ok_or_else(allowed)
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn flag(&mut self, key: &'static str, default: bool) -> Result<bool, OptionError> {
        let choices = if default {
            ["true", "false"]
        } else {
            ["false", "true"]
        };
        Ok(self.choice(key, &choices)? == "true")
    }

    /// A time.
    ///
    /// # Errors
    /// When it is none.
    pub fn time(&mut self, key: &'static str, default: Duration) -> Result<Duration, OptionError> {
        let Some(text) = self.text(key) else {
            return Ok(default);
        };
        crate::args::duration(&text).map_err(|error| OptionError(format!("{key}: {error}")))
    }

    /// The password of the URL, or the file that is named instead.
    ///
    /// # Errors
    /// When there are both.
    pub fn password(&mut self, url: &Url) -> Result<Option<Credential>, OptionError> {
        let given = url.password().map(decoded).transpose()?;
        match (given, self.text("password-file")) {
            (Some(_), Some(_)) => Err(OptionError(
                "there is a password and a password-file; one of them is enough".to_owned(),
            )),
            (Some(given), None) => Ok(Some(Credential::Given(Secret::new(given)))),
            (None, file) => Ok(file.map(|file| Credential::File(file.into()))),
        }
    }

    /// Host and port, and TLS with the authorities of `ca-file`.
    ///
    /// # Errors
    /// When there is no host, or a file without TLS.
    pub fn endpoint(&mut self, url: &Url, port: u16, tls: bool) -> Result<Endpoint, OptionError> {
        let (host, port) = host(url, port)?;
        let ca_file = self.text("ca-file").map(PathBuf::from);
        if ca_file.is_some() && !tls {
            return Err(OptionError("ca-file makes sense with TLS only".to_owned()));
        }
        Ok(Endpoint {
            host,
            port,
            tls: tls.then_some(Tls { ca_file }),
        })
    }

    /// The end: whatever is left is unknown.
    ///
    /// # Errors
    /// Which one, and what there is.
    pub fn finish(self) -> Result<(), OptionError> {
        let Some(unknown) = self.left.keys().next() else {
            return Ok(());
        };
        let mut known = self.asked;
        known.sort_unstable();
        Err(OptionError(format!(
            "the option {unknown} is unknown; allowed: {}",
            known.join(", ")
        )))
    }
}

/// Host and port of a URL.
///
/// # Errors
/// When there is no host.
pub fn host(url: &Url, port: u16) -> Result<(String, u16), OptionError> {
    let host = match url.host() {
        Some(url::Host::Ipv6(address)) => address.to_string(),
        Some(url::Host::Ipv4(address)) => address.to_string(),
        Some(url::Host::Domain(host)) if !host.is_empty() => host.to_owned(),
        _ => return Err(OptionError("it names no host".to_owned())),
    };
    Ok((host, url.port().unwrap_or(port)))
}
