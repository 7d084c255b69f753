//! HTTP: CloudEvents 1.0 by POST, in batches, or one a request. In: batches. Out: requests over one connection
//! that is kept. What an answer's status means is decided here.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use url::Url;

use super::events::{self, Mode};
use super::failure::{Failure, Reason};
use super::feed::Gap;
use super::net::Endpoint;
use super::options::{OptionError, user};
use super::query::Query;
use super::secret::{Credential, Secret};
use crate::api::service::MessageView;

/// An answer is read up to here; it is of use in the log only.
const MOST_ANSWER: usize = 16 << 10;

/// Where and how.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    endpoint: Endpoint,
    host: String,
    path: Secret,
    user: Option<String>,
    password: Option<Credential>,
    token: Option<Credential>,
    mode: Mode,
}

impl HttpOptions {
    /// Takes what is ours from a URL; and the name of the sink. A path may hold a secret, so it is no part of it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(url: &Url, query: &mut Query) -> Result<(Self, String), OptionError> {
        let is_tls = url.scheme() == "https";
        let endpoint = query.endpoint(url, if is_tls { 443 } else { 80 }, is_tls)?;
        let token = query
            .text("token-file")
            .map(|file| Credential::File(file.into()));
        let mode = match query.choice("mode", &["batch", "structured", "binary"])? {
            "structured" => Mode::Structured,
            "binary" => Mode::Binary,
            _ => Mode::Batch,
        };
        let options = Self {
            host: endpoint.authority(),
            path: Secret::new(url.path().to_owned()),
            user: user(url)?,
            password: query.password(url)?,
            token,
            mode,
            endpoint,
        };
        if options.token.is_some() && options.user.is_some() {
            return Err(OptionError(
                "there is a user and a token-file; one of them is enough".to_owned(),
            ));
        }
        let name = format!("{}://{}", url.scheme(), options.host);
        Ok((options, name))
    }

    /// Whether a request carries many messages.
    #[must_use]
    pub fn is_batch(&self) -> bool {
        self.mode == Mode::Batch
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let read = |credential: Credential| async move {
            let text = credential.read().await;
            text.map_err(|error| Failure::new(Reason::Auth, error))
        };
        let text = if let Some(token) = self.token.clone() {
            format!("Bearer {}", read(token).await?.expose())
        } else if let Some(user) = &self.user {
            let password = match self.password.clone() {
                Some(password) => read(password).await?,
                None => Secret::new(String::new()),
            };
            let pair = format!("{user}:{}", password.expose());
            format!("Basic {}", STANDARD.encode(pair))
        } else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Failure::new(Reason::Auth, "the token has characters that no header may")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

/// See the module.
pub struct Http {
    options: HttpOptions,
    store_id: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Http {
    /// Connects when it is needed.
    pub fn new(options: HttpOptions, store_id: &str) -> Self {
        Self {
            options,
            store_id: store_id.to_owned(),
            connection: None,
        }
    }

    /// Sends messages; one if the mode is not `batch`.
    pub async fn send(&mut self, messages: &[MessageView]) -> Result<(), Failure> {
        let event = match (self.options.mode, messages) {
            (Mode::Batch, _) => events::batch(messages),
            (mode, [message]) => events::single(mode, message),
            _ => {
                let text = "more than one message for one request";
                return Err(Failure::new(Reason::Protocol, text));
            }
        };
        self.post(event).await
    }

    /// Sends a gap as an event of its own type.
    pub async fn tell(&mut self, gap: &Gap) -> Result<(), Failure> {
        let event = events::gap(self.options.mode, &self.store_id, gap);
        self.post(event).await
    }

    /// Closes the connection.
    pub fn reset(&mut self) {
        self.connection = None;
    }

    async fn post(&mut self, event: events::Body) -> Result<(), Failure> {
        let mut request = Request::post(self.options.path.expose())
            .header(HOST, self.options.host.as_str())
            .header(USER_AGENT, "akri-mqtt-monitoring-broker")
            .header(CONTENT_TYPE, event.content_type);
        for (name, value) in event.headers {
            request = request.header(name, value);
        }
        if let Some(value) = self.options.authorization().await? {
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(Full::new(Bytes::from(event.body)));
        let request = request.map_err(|error| Failure::new(Reason::Protocol, error))?;
        let connection = self.connection().await?;
        let answer = connection.send_request(request).await;
        let answer = answer.map_err(|error| Failure::new(Reason::Connection, error))?;
        let (status, wait) = (answer.status(), retry_after(&answer));
        let body = Limited::new(answer.into_body(), MOST_ANSWER);
        let text = match body.collect().await {
            Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
            Err(_) => {
                // Too long, or cut: the connection cannot be used again.
                self.reset();
                String::new()
            }
        };
        judge(status, wait, text.trim())
    }

    /// The connection of the last request if it is still open, else a new one.
    async fn connection(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, Failure> {
        if let Some(connection) = &mut self.connection
            && connection.ready().await.is_err()
        {
            self.connection = None;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            none => {
                let stream = self.options.endpoint.connect().await?;
                let made = handshake(TokioIo::new(stream)).await;
                let (connection, driver) =
                    made.map_err(|error| Failure::new(Reason::Connection, error))?;
                // Ends with the connection.
                tokio::spawn(driver);
                Ok(none.insert(connection))
            }
        }
    }
}

fn judge(status: StatusCode, wait: Option<Duration>, text: &str) -> Result<(), Failure> {
    if status.is_success() {
        return Ok(());
    }
    let reason = match status.as_u16() {
        408 | 425 | 429 | 500..=599 => Reason::Unavailable,
        401 | 403 | 407 => Reason::Auth,
        // A wrong address is a fault of the command line, not of a message.
        300..=399 | 404 | 405 | 410 => Reason::Configuration,
        400..=499 => Reason::Refused,
        _ => Reason::Protocol,
    };
    let mut failure = Failure::new(reason, format!("{status}: {text}"));
    failure.wait = wait.filter(|_| reason == Reason::Unavailable);
    Err(failure)
}

/// `Retry-After` in seconds or as a date (RFC 9110, 10.2.3).
fn retry_after<B>(answer: &Response<B>) -> Option<Duration> {
    let text = answer.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    let seconds = date.as_second() - Timestamp::now().as_second();
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: u16) -> Option<Reason> {
        let status = StatusCode::from_u16(status).unwrap();
        judge(status, None, "").err().map(|failure| failure.reason)
    }

    #[test]
    fn only_an_answer_about_the_message_itself_gives_it_up() {
        for status in [200, 202, 204] {
            assert_eq!(reason(status), None);
        }
        for status in [400, 406, 409, 413, 415, 422, 431, 451] {
            assert_eq!(reason(status), Some(Reason::Refused), "{status}");
        }
        for status in [408, 425, 429, 500, 502, 503, 504, 507] {
            assert_eq!(reason(status), Some(Reason::Unavailable), "{status}");
        }
        for status in [401, 403, 407] {
            assert_eq!(reason(status), Some(Reason::Auth), "{status}");
        }
        for status in [301, 302, 404, 405, 410] {
            assert_eq!(reason(status), Some(Reason::Configuration), "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let answer = |value: &str| {
            let answer = Response::builder().header(RETRY_AFTER, value);
            retry_after(&answer.body(()).unwrap())
        };
        assert_eq!(answer("120"), Some(Duration::from_secs(120)));
        assert_eq!(answer("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        assert!(answer("Wed, 21 Oct 2099 07:28:00 GMT").unwrap() > Duration::from_secs(1_000_000));
        assert_eq!(answer("soon"), None);
    }
}
