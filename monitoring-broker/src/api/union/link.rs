//! Talks to one other member. In: requests. Out: its answers, or why there are none. Connections are made when they
//! are needed and kept; a member that does not answer a ping is taken for gone, whatever is open.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use akri_mqtt_core::pool::Member;
use akri_mqtt_proto::monitoring::monitoring_client::MonitoringClient;
use akri_mqtt_proto::monitoring::{WatchRequest, WatchResponse};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::service_fn;

use super::metrics::{ForwardMetrics, Outcome};
use super::{Caller, PeerTls, ServiceError};
use crate::api::grpc::ANSWER_BYTES;
use crate::pool::{Address, Peer};

/// Says that a member asks, and which store it means: the answer comes from that one alone.
pub const MARKER: &str = "akri-mqtt-member-asks";
/// Carries the error of a member as it is, so that the other one can give it its own form.
pub const ERROR: &str = "akri-mqtt-error-bin";
/// TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(1);
/// A member that hangs is found out after both, whatever is open.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_WITHIN: Duration = Duration::from_secs(2);
/// Connections for streams; a server allows 256 streams on each.
const STREAMS: usize = 4;
/// What waits of a stream whose reader is slow. It must not hold up the others of its connection, which has room for
/// all of them.
const STREAM_BYTES: u32 = 64 << 10;
const ALL_STREAMS_BYTES: u32 = 256 * STREAM_BYTES;

pub(super) type Client = MonitoringClient<Channel>;

/// See the module.
pub(super) struct Link {
    pub(super) member: Member,
    pub(super) peer: Peer,
    calls: Channel,
    streams: [Channel; STREAMS],
    turn: AtomicUsize,
    metrics: ForwardMetrics,
}

impl Link {
    pub(super) fn new(member: Member, peer: Peer, tls: PeerTls, metrics: ForwardMetrics) -> Self {
        let plain = |endpoint| endpoint;
        let narrow = |endpoint: Endpoint| {
            endpoint
                .initial_stream_window_size(STREAM_BYTES)
                .initial_connection_window_size(ALL_STREAMS_BYTES)
        };
        Self {
            calls: channel(&peer.address, &tls, plain),
            streams: std::array::from_fn(|_| channel(&peer.address, &tls, narrow)),
            member,
            peer,
            turn: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Asks the member once.
    ///
    /// # Errors
    /// Its own, or [`ServiceError::Unreachable`]; then it is not known whether it has acted on the request.
    pub(super) async fn call<Q, A, F>(
        &self,
        caller: &Caller,
        within: Duration,
        query: Q,
        ask: impl FnOnce(Client, Request<Q>) -> F,
    ) -> Result<A, ServiceError>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let request = self.request(caller, query)?;
        self.answer(within, ask(client(&self.calls), request)).await
    }

    /// Opens a stream, on a connection that is not held up by one whose reader is slow.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub(super) async fn watch(
        &self,
        caller: &Caller,
        within: Duration,
        query: WatchRequest,
    ) -> Result<Streaming<WatchResponse>, ServiceError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let channel = self.streams.get(turn % STREAMS).unwrap_or(&self.calls);
        let request = self.request(caller, query)?;
        self.answer(within, client(channel).watch(request)).await
    }

    async fn answer<A>(
        &self,
        within: Duration,
        answer: impl Future<Output = Result<Response<A>, Status>>,
    ) -> Result<A, ServiceError> {
        let answer = timeout(within, answer).await;
        let answer = match answer {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(self.error(&status)),
            Err(_) => Err(self.unreachable(format_args!("no answer within {within:?}"))),
        };
        self.metrics.count(match &answer {
            Ok(_) => Outcome::Answered,
            Err(ServiceError::Unreachable(_)) => Outcome::Unreachable,
            Err(_) => Outcome::Refused,
        });
        answer
    }

    fn request<Q>(&self, caller: &Caller, query: Q) -> Result<Request<Q>, ServiceError> {
        let mut request = Request::new(query);
        let metadata = request.metadata_mut();
        let store = self.peer.store.parse();
        let store = store.map_err(|_| self.unreachable("the name of its store is none"))?;
        metadata.insert(MARKER, store);
        if let Some(token) = caller.token() {
            metadata.insert("authorization", token.clone());
        }
        Ok(request)
    }

    /// What a status means: the member's own error, or that there is no answer of it.
    pub(super) fn error(&self, status: &Status) -> ServiceError {
        let carried = status.metadata().get_bin(ERROR);
        let carried = carried.and_then(|value| value.to_bytes().ok());
        if let Some(error) = carried.and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
            return error;
        }
        match status.code() {
            Code::Unauthenticated => {
                self.unreachable(format_args!("it refuses: {}", status.message()))
            }
            _ => {
                tracing::debug!(member = %self.member, %status, "a member does not answer");
                self.unreachable("there is no connection, or it broke")
            }
        }
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> ServiceError {
        let Self { member, peer, .. } = self;
        let address = &peer.address;
        ServiceError::Unreachable(format!(
            "the member {member} of the pool cannot be reached at {address}: {why}"
        ))
    }
}

fn client(channel: &Channel) -> Client {
    MonitoringClient::new(channel.clone()).max_decoding_message_size(ANSWER_BYTES)
}

fn channel(address: &Address, tls: &PeerTls, shape: impl Fn(Endpoint) -> Endpoint) -> Channel {
    // Where to connect is the connector's; this is what requests call their server.
    let endpoint = Endpoint::from_shared(format!("http://{address}"));
    let endpoint = endpoint.unwrap_or_else(|_| Endpoint::from_static("http://member"));
    let endpoint = endpoint
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN);
    let (address, tls) = (address.clone(), tls.clone());
    shape(endpoint).connect_with_connector_lazy(service_fn(move |_| {
        let (address, tls) = (address.clone(), tls.clone());
        async move {
            let connected = timeout(CONNECT_WITHIN, connect(&address, &tls)).await;
            let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            io::Result::Ok(TokioIo::new(stream))
        }
    }))
}

type Connection = Either<TcpStream, tokio_rustls::client::TlsStream<TcpStream>>;

async fn connect(address: &Address, tls: &PeerTls) -> io::Result<Connection> {
    let stream = TcpStream::connect((address.host(), address.port())).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Either::Left(stream));
    };
    let config = Arc::clone(&tls.borrow());
    let name = ServerName::try_from(address.host().to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(config).connect(name, stream).await?;
    Ok(Either::Right(stream))
}
