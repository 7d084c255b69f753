//! The gRPC service `DiscoveryHandler` of Akri's protocol. In: Discover calls. Out: streams of lists.
//! What is in them is decided by `requests`; how long they live by `streams`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use akri_mqtt_proto::akri::discovery_handler_server::{DiscoveryHandler, DiscoveryHandlerServer};
use akri_mqtt_proto::akri::{DiscoverRequest, DiscoverResponse};
use akri_mqtt_runtime::Shutdown;
use futures_util::{Stream, StreamExt as _};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::authority::Caller;
use crate::endpoint::Bound;
use crate::requests::{Opened, Requests};
use crate::streams::{Sent, responses};

/// Finds the end of callers that vanish from the network. Unix sockets need none: they are closed
/// with their process. Never HTTP/2 pings: an Agent that is only slow must not lose its streams.
const TCP_KEEPALIVE: Duration = Duration::from_secs(60);
/// How long streams may take to end at the shutdown.
const DRAIN_WITHIN: Duration = Duration::from_secs(2);

/// Answers Discover calls.
#[derive(Clone)]
pub struct Service {
    /// Who knows the lists.
    pub requests: Requests,
    /// When the same list goes out again.
    pub repeat_after: [Duration; 2],
    /// Counts what is sent.
    pub sent: Arc<Sent>,
    /// Ends the streams.
    pub shutdown: Shutdown,
}

#[tonic::async_trait]
impl DiscoveryHandler for Service {
    type DiscoverStream = Pin<Box<dyn Stream<Item = Result<DiscoverResponse, Status>> + Send>>;

    async fn discover(
        &self,
        request: Request<DiscoverRequest>,
    ) -> Result<Response<Self::DiscoverStream>, Status> {
        let Opened { lists, open } = self.requests.open(request.into_inner()).await?;
        let (sent, shutdown) = (Arc::clone(&self.sent), self.shutdown.clone());
        let stream = responses(lists, self.repeat_after, sent, open, shutdown);
        Ok(Response::new(Box::pin(stream)))
    }
}

/// Serves until the shutdown; the socket file is removed with the listener.
///
/// # Errors
/// When the listener fails.
pub async fn serve(bound: Bound, service: Service) -> anyhow::Result<()> {
    let shutdown = service.shutdown.clone();
    let router = Server::builder().add_service(DiscoveryHandlerServer::new(service));
    let over = shutdown.clone();
    let signal = async move { over.triggered().await };
    let served = async move {
        match bound {
            Bound::Unix(listener, _file) => {
                let incoming = UnixListenerStream::new(listener);
                let incoming = incoming.map(|stream| stream.map(Caller::new));
                router.serve_with_incoming_shutdown(incoming, signal).await
            }
            Bound::Network(listener, _) => {
                let incoming = TcpIncoming::from(listener)
                    .with_keepalive(Some(TCP_KEEPALIVE))
                    .with_nodelay(Some(true));
                router.serve_with_incoming_shutdown(incoming, signal).await
            }
        }
    };
    let late = async {
        shutdown.triggered().await;
        tokio::time::sleep(DRAIN_WITHIN).await;
    };
    tokio::select! {
        result = served => Ok(result?),
        () = late => Ok(()),
    }
}
