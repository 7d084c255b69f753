//! Keeps one Discover stream open. In: an endpoint and what to ask it. Out: that the handler has
//! accepted, its lists, its failures. It never gives up; which call counts is decided by `line`.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_proto::akri::{ByteData, DiscoverRequest};
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::bytes::Bytes;
use rand::Rng as _;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint as Target};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::devices::{List, RawResponse, Reader};
use super::metrics::{Failure, Metrics};
use crate::handlers::{Book, CONNECT_WITHIN, Endpoint, connect_unix};
use crate::references::Resolved;

/// The method.
const DISCOVER: &str = "/v0.DiscoveryHandler/Discover";
/// Handlers of ours size their lists by this; one device takes about 400 bytes.
const MAX_RESPONSE: usize = 16 << 20;
/// The property that tells them.
const MAX_RESPONSE_PROPERTY: &str = "AKRI_MQTT_MAX_RESPONSE";
/// What a response may have above that.
const SLACK: usize = 1 << 20;
/// How long a handler may take to accept or refuse.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// A handler that hangs is noticed; its devices stay all the same.
/// Not more often: servers of gRPC in C and Go end a connection that is pinged more than once in 5 minutes.
const PING_EVERY: Duration = Duration::from_secs(330);
const PING_WITHIN: Duration = Duration::from_secs(60);
/// Characters of a handler's words that are kept.
const MAX_WORDS: usize = 2_048;

/// What a handler is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub details: Arc<str>,
    pub properties: Resolved,
}

/// Names a call among all of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CallId(pub u64);

/// What has happened to a call.
#[derive(Clone, Debug)]
pub(super) enum Happened {
    /// The handler has accepted.
    Opened,
    /// A list; the first of its stream or not.
    List { list: List, first: bool },
    /// It failed, or the stream has ended. It goes on by itself.
    Failed {
        /// The handler does not want what it is asked.
        refused: bool,
        /// It was reached.
        answered: bool,
        reason: String,
    },
}

/// What has happened, and to which.
#[derive(Debug)]
pub(super) struct Told {
    pub id: CallId,
    pub what: Happened,
}

/// One call.
pub(super) struct Call {
    pub id: CallId,
    pub handler: Arc<str>,
    pub endpoint: Endpoint,
    pub ask: Arc<Ask>,
    pub told: mpsc::Sender<Told>,
    /// To notice that the handler has registered again.
    pub book: watch::Receiver<Arc<Book>>,
    pub metrics: Metrics,
}

struct Failed {
    failure: Failure,
    reason: String,
}

impl Failed {
    fn refused(&self) -> bool {
        matches!(self.failure, Failure::Refused | Failure::TooLarge)
    }
}

impl Call {
    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        let mut reader = Reader::default();
        let mut said = None;
        loop {
            let registered = self.registered();
            let started = Instant::now();
            let Err(failed) = self.stream(&mut reader).await else {
                return;
            };
            // Before it is shortened: a secret of which a part is cut is not found any more.
            let reason = words(&self.ask.properties.redact(&failed.reason));
            self.metrics.failed(failed.failure);
            if said.as_ref() == Some(&reason) {
                debug!(endpoint = %self.endpoint, reason, "Discover failed again");
            } else {
                warn!(endpoint = %self.endpoint, reason, "Discover failed; the last list stands");
                said = Some(reason.clone());
            }
            let refused = failed.refused();
            let what = Happened::Failed {
                refused,
                answered: failed.failure != Failure::Unreachable,
                reason,
            };
            self.tell(what).await;
            let wait = backoff.next(refused, started.elapsed(), rand::rng().random());
            if self.sleep(wait, registered).await {
                backoff.reset();
            }
        }
    }

    /// Waits, but not longer than until the handler registers again, which is the answer.
    async fn sleep(&mut self, wait: Duration, registered: Option<u64>) -> bool {
        let (handler, endpoint) = (&self.handler, &self.endpoint);
        let again = self.book.wait_for(|book| {
            let now = times(book, handler, endpoint);
            now.is_some() && now != registered
        });
        timeout(wait, again).await.is_ok()
    }

    fn registered(&self) -> Option<u64> {
        times(&self.book.borrow(), &self.handler, &self.endpoint)
    }

    async fn tell(&self, what: Happened) {
        // It fails only when the discovery is over.
        let _ = self.told.send(Told { id: self.id, what }).await;
    }

    /// One stream, from its beginning to its end. `Ok` when nobody listens any more.
    async fn stream(&self, reader: &mut Reader) -> Result<(), Failed> {
        let mut stream = match timeout(ANSWER_WITHIN, self.open()).await {
            Ok(opened) => opened?,
            Err(_) => {
                return Err(Failed {
                    failure: Failure::Unreachable,
                    reason: format!("the handler does not answer within {ANSWER_WITHIN:?}"),
                });
            }
        };
        info!(endpoint = %self.endpoint, "Discover stream is open");
        let _open = self.metrics.stream();
        self.tell(Happened::Opened).await;
        let mut first = true;
        while let Some(response) = stream.message().await.map_err(|status| failed(&status))? {
            let list = reader.read(response);
            self.metrics.list(&list.left_out);
            let what = Happened::List { list, first };
            first = false;
            if self.told.send(Told { id: self.id, what }).await.is_err() {
                return Ok(());
            }
        }
        Err(Failed {
            failure: Failure::Ended,
            reason: "the handler has ended the stream".to_owned(),
        })
    }

    async fn open(&self) -> Result<Streaming<RawResponse>, Failed> {
        let channel = connect(&self.endpoint).await?;
        let mut client = Grpc::new(channel).max_decoding_message_size(MAX_RESPONSE + SLACK);
        client.ready().await.map_err(|error| unreachable(&error))?;
        let codec = ProstCodec::<DiscoverRequest, RawResponse>::default();
        let path = PathAndQuery::from_static(DISCOVER);
        let request = Request::new(self.request());
        let answer = client.server_streaming(request, path, codec).await;
        Ok(answer.map_err(|status| failed(&status))?.into_inner())
    }

    fn request(&self) -> DiscoverRequest {
        let data = |value: Bytes| ByteData { vec: Some(value) };
        let values = self.ask.properties.values();
        let mut properties: BTreeMap<String, ByteData> = values
            .map(|(name, value)| (name.to_owned(), data(value.clone())))
            .collect();
        properties
            .entry(MAX_RESPONSE_PROPERTY.to_owned())
            .or_insert_with(|| data(MAX_RESPONSE.to_string().into()));
        DiscoverRequest {
            discovery_details: self.ask.details.to_string(),
            discovery_properties: properties,
        }
    }
}

fn times(book: &Book, handler: &str, endpoint: &Endpoint) -> Option<u64> {
    book.get(handler)?.endpoints.get(endpoint).copied()
}

/// Connects, with tonic's own authority: Akri's handlers know no other.
async fn connect(endpoint: &Endpoint) -> Result<Channel, Failed> {
    let target = match endpoint {
        Endpoint::Unix(_) => Target::from_static("http://[::1]:50051"),
        Endpoint::Network(address) => {
            Target::from_shared(format!("http://{address}")).map_err(|error| unreachable(&error))?
        }
    };
    let target = target
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN);
    let connected = match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connector = tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { connect_unix(&path).await.map(TokioIo::new) }
            });
            target.connect_with_connector(connector).await
        }
        Endpoint::Network(_) => target.connect().await,
    };
    connected.map_err(|error| unreachable(&error))
}

fn unreachable(error: &tonic::transport::Error) -> Failed {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    Failed {
        failure: Failure::Unreachable,
        reason: format!("the handler cannot be reached: {deepest}"),
    }
}

fn failed(status: &Status) -> Failed {
    // An error of the connection has a source, one that the handler has sent has none.
    let local = status.source().is_some();
    let failure = match status.code() {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => Failure::Refused,
        Code::OutOfRange => Failure::TooLarge,
        Code::Unavailable => Failure::Unreachable,
        _ if local => Failure::Unreachable,
        _ => Failure::Error,
    };
    let message = status.message();
    let reason = match failure {
        Failure::TooLarge => format!("a response has more than {} bytes", MAX_RESPONSE + SLACK),
        Failure::Unreachable if local => format!("the connection to the handler broke: {message}"),
        _ if message.is_empty() => format!("the handler answers with {:?}", status.code()),
        _ => message.to_owned(),
    };
    Failed { failure, reason }
}

/// As much of somebody's words as is kept, on one line.
fn words(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(MAX_WORDS).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_handler_says_is_told_from_a_broken_connection() {
        let refused = failed(&Status::invalid_argument("line 1, column 2:\nno topics"));
        assert_eq!(refused.failure, Failure::Refused);
        assert_eq!(words(&refused.reason), "line 1, column 2: no topics");
        assert_eq!(failed(&Status::internal("x")).failure, Failure::Error);
        let broken = Status::from_error(Box::new(std::io::Error::other("gone")));
        assert_eq!(failed(&broken).failure, Failure::Unreachable);
        assert_eq!(
            failed(&Status::not_found("")).reason,
            "the handler answers with NotFound"
        );
        assert_eq!(words(&"x".repeat(10_000)).len(), MAX_WORDS);
    }
}
