//! The gRPC front: Monitoring, health, reflection. In: a bound listener, the service, health.
//! Out: returns when it was drained. What is answered is the service's; the forms are in `convert`.

mod convert;
mod health;
#[cfg(test)]
mod tests;

use std::pin::Pin;

use akri_mqtt_proto::DESCRIPTORS;
use akri_mqtt_proto::monitoring::monitoring_server::{Monitoring, MonitoringServer};
use akri_mqtt_proto::monitoring::{
    GetLatestRequest, GetLatestResponse, ListDevicesRequest, ListDevicesResponse, PublishRequest,
    PublishResponse, QueryReadingsRequest, QueryReadingsResponse, QueryRequest, QueryResponse,
    WatchRequest, WatchResponse,
};
use akri_mqtt_runtime::tls::Port;
use akri_mqtt_runtime::{Health, serve};
use anyhow::Context as _;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response as HttpResponse;
use futures_util::{Stream, stream};
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder;

use super::Service;
use super::peer;
use super::service::{ServiceError, topic_filter};
use super::union::{Asked, Caller, ERROR, MARKER};
use crate::access::Gate;
use convert as to;
pub(super) use convert::timestamp;

/// The services that reflection lists.
const SERVICES: [&str; 2] = [
    "akri_mqtt.monitoring.v1.Monitoring",
    "grpc.health.v1.Health",
];
/// A request; as large as a body of HTTP may be.
const REQUEST_BYTES: usize = 1 << 20;
/// An answer: the latest messages of a device, which have no pages, and what encoding adds.
pub(super) const ANSWER_BYTES: usize = 64 << 20;

/// Serves until the service's shutdown, then drains.
///
/// # Errors
/// When the descriptors for reflection cannot be read; else as [`akri_mqtt_runtime::serve()`].
pub async fn run(port: Port, service: Service, health: Health, gate: Gate) -> anyhow::Result<()> {
    let shutdown = service.shutdown.clone();
    let router = routes(service, health)?.prepare().into_axum_router();
    let router = router.layer(from_fn_with_state(gate, admit));
    serve(port, router, shutdown).await
}

/// Lets pass who may, before it is looked whether there is such a method.
async fn admit(State(gate): State<Gate>, request: HttpRequest, next: Next) -> HttpResponse {
    match gate.check(&request) {
        Ok(()) => next.run(request).await,
        Err(denied) => Status::unauthenticated(denied.to_string()).into_http(),
    }
}

fn routes(service: Service, health: Health) -> anyhow::Result<Routes> {
    let reflection = || {
        let builder = Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        SERVICES
            .into_iter()
            .fold(builder, Builder::with_service_name)
    };
    let unreadable = "the descriptors for reflection cannot be read";
    let health = health::Readiness::new(service.clone(), health);
    let monitoring = MonitoringServer::new(Api { service })
        .max_decoding_message_size(REQUEST_BYTES)
        .max_encoding_message_size(ANSWER_BYTES);
    Ok(Routes::new(monitoring)
        .add_service(HealthServer::new(health).max_decoding_message_size(REQUEST_BYTES))
        .add_service(reflection().build_v1().context(unreadable)?)
        .add_service(reflection().build_v1alpha().context(unreadable)?))
}

struct Api {
    service: Service,
}

#[tonic::async_trait]
impl Monitoring for Api {
    async fn list_devices(
        &self,
        request: Request<ListDevicesRequest>,
    ) -> Result<Response<ListDevicesResponse>, Status> {
        self.answer(request, async |asked, request| {
            let page = asked.devices(&to::device_query(request)?).await?;
            Ok(to::device_page(page))
        })
        .await
    }

    async fn get_latest(
        &self,
        request: Request<GetLatestRequest>,
    ) -> Result<Response<GetLatestResponse>, Status> {
        const FIELD: &str = "topic_filter";
        self.answer(request, async |asked, request| {
            let filter = topic_filter(FIELD, &request.topic_filter)?;
            let latest = asked.latest(&request.device_id, FIELD, filter.as_ref());
            let (messages, about) = latest.await?;
            Ok(GetLatestResponse {
                messages: messages.into_iter().map(to::message).collect(),
                presence: to::device(about.device).presence,
                partial: about.partial,
            })
        })
        .await
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        self.answer(request, async |asked, request| {
            let opened = asked.watch(to::watch_query(request)?).await?;
            let events = stream::try_unfold(opened, |mut opened| async move {
                let event = opened.next().await.map_err(to::status)?;
                Ok(event.map(|event| (to::watch_event(event), opened)))
            });
            let events: Self::WatchStream = Box::pin(events);
            Ok(events)
        })
        .await
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        self.answer(request, async |asked, request| {
            let (page, about) = asked.query(&to::message_query(request)?).await?;
            Ok(QueryResponse {
                messages: page.messages.into_iter().map(to::message).collect(),
                next_page_token: page.next_page_token,
                presence: to::device(about.device).presence,
                partial: about.partial,
            })
        })
        .await
    }

    async fn query_readings(
        &self,
        request: Request<QueryReadingsRequest>,
    ) -> Result<Response<QueryReadingsResponse>, Status> {
        self.answer(request, async |asked, request| {
            let (page, about) = asked.readings(&to::reading_query(request)?).await?;
            Ok(QueryReadingsResponse {
                readings: page.readings.into_iter().map(to::reading).collect(),
                next_page_token: page.next_page_token,
                presence: to::device(about.device).presence,
                partial: about.partial,
            })
        })
        .await
    }

    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let peer = peer(request.extensions().get());
        self.answer(request, async |asked, request| {
            let done = asked.publish(to::command(request, peer)?).await?;
            Ok(PublishResponse {
                response: done.response.map(to::message),
                no_subscribers: done.no_subscribers,
            })
        })
        .await
    }
}

impl Api {
    /// Answers a caller; another member gets errors as they are beside what they say.
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        work: impl FnOnce(Asked, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        F: Future<Output = Result<A, ServiceError>>,
    {
        let metadata = request.metadata();
        let token = metadata.get("authorization").map(|it| it.as_bytes());
        let store = metadata.get(MARKER).map(|it| it.as_bytes());
        let caller = Caller::new(token, store);
        let asked = Asked::new(self.service.clone(), caller).map_err(to::status)?;
        let is_member = asked.is_member();
        let answer = work(asked, request.into_inner()).await;
        answer.map(Response::new).map_err(|error| {
            let carried = is_member.then(|| serde_json::to_vec(&error).ok()).flatten();
            let mut status = to::status(error);
            if let Some(carried) = carried {
                let value = MetadataValue::from_bytes(&carried);
                status.metadata_mut().insert_bin(ERROR, value);
            }
            status
        })
    }
}
