//! The gRPC front. In: requests of `akri_mqtt.monitoring.v1`. Out: answers, streams, status codes.
//! What is answered is the service's; here are only the two forms side by side.

mod convert;

use std::collections::BTreeSet;
use std::pin::Pin;

use akri_mqtt_proto::monitoring as proto;
use akri_mqtt_runtime::Shutdown;
use futures_util::Stream;
use proto::monitoring_server::{Monitoring, MonitoringServer};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::api::service::{
    self, MessageQuery, ReadingQuery, Service, ServiceError, Start, WatchQuery, Watcher,
};
use crate::store::StoreError;

/// Streams of one connection; all of them together are limited by the service.
const STREAMS: u32 = 1_100;

/// Serves the API, health and reflection on a bound listener until the shutdown.
///
/// # Errors
/// When the server fails.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<MonitoringServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(akri_mqtt_proto::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stopped = shutdown.clone();
    let stop = async move {
        stopped.triggered().await;
        health.set_not_serving::<MonitoringServer<Api>>().await;
    };
    tonic::transport::Server::builder()
        .max_concurrent_streams(STREAMS)
        .add_service(MonitoringServer::new(Api(service)))
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, stop)
        .await?;
    Ok(())
}

struct Api(Service);

impl From<ServiceError> for Status {
    fn from(error: ServiceError) -> Self {
        let text = error.to_string();
        match error {
            ServiceError::Invalid { .. } => Self::invalid_argument(text),
            ServiceError::UnknownDevice(_) => Self::not_found(text),
            ServiceError::TooManyStreams(_) => Self::resource_exhausted(text),
            ServiceError::PublishingIsOff => Self::failed_precondition(text),
            ServiceError::Store(StoreError::Closed | StoreError::Full(_)) => {
                Self::unavailable(text)
            }
            ServiceError::Store(_) => Self::internal(text),
        }
    }
}

type Events = Pin<Box<dyn Stream<Item = Result<proto::WatchResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Monitoring for Api {
    type WatchStream = Events;

    async fn list_devices(
        &self,
        request: Request<proto::ListDevicesRequest>,
    ) -> Result<Response<proto::ListDevicesResponse>, Status> {
        let request = request.into_inner();
        let limit = convert::limit(request.page_size)?;
        let (devices, next_page_token) = self.0.devices(limit, &request.page_token)?;
        Ok(Response::new(proto::ListDevicesResponse {
            devices: devices.into_iter().map(Into::into).collect(),
            next_page_token,
        }))
    }

    async fn get_latest(
        &self,
        request: Request<proto::GetLatestRequest>,
    ) -> Result<Response<proto::GetLatestResponse>, Status> {
        let request = request.into_inner();
        let filter = service::topic_filter(&request.topic_filter)?;
        let messages = self.0.latest(&request.device_id, filter.as_ref()).await?;
        Ok(Response::new(proto::GetLatestResponse {
            messages: messages.into_iter().map(Into::into).collect(),
            presence: Some((&self.0.device(&request.device_id)?).into()),
            partial: false,
        }))
    }

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Events>, Status> {
        let request = request.into_inner();
        let start = match request.start {
            None => Start::Now,
            Some(proto::watch_request::Start::Cursor(cursor)) => Start::Cursor(cursor),
            Some(proto::watch_request::Start::Since(since)) => {
                Start::Since(convert::time("since", since)?)
            }
        };
        let query = WatchQuery {
            devices: BTreeSet::from_iter(request.device_ids),
            topic: service::topic_filter(&request.topic_filter)?,
            start,
            presence: request.include_presence,
        };
        let watcher = self.0.watch(query).await?;
        let events = futures_util::stream::unfold(Some(watcher), next);
        Ok(Response::new(Box::pin(events)))
    }

    async fn query(
        &self,
        request: Request<proto::QueryRequest>,
    ) -> Result<Response<proto::QueryResponse>, Status> {
        let request = request.into_inner();
        let query = MessageQuery {
            topic: service::topic_filter(&request.topic_filter)?,
            from: convert::optional_time("from", request.from)?,
            to: convert::optional_time("to", request.to)?,
            ascending: convert::ascending(request.order)?,
            limit: convert::limit(request.limit)?,
            page_token: request.page_token,
            device: request.device_id,
        };
        let page = self.0.query(&query).await?;
        Ok(Response::new(proto::QueryResponse {
            messages: page.messages.into_iter().map(Into::into).collect(),
            next_page_token: page.next_page_token,
            presence: Some((&self.0.device(&query.device)?).into()),
            partial: false,
        }))
    }

    async fn query_readings(
        &self,
        request: Request<proto::QueryReadingsRequest>,
    ) -> Result<Response<proto::QueryReadingsResponse>, Status> {
        let request = request.into_inner();
        let query = ReadingQuery {
            messages: MessageQuery {
                topic: service::topic_filter(&request.topic_filter)?,
                from: convert::optional_time("from", request.from)?,
                to: convert::optional_time("to", request.to)?,
                ascending: convert::ascending(request.order)?,
                limit: convert::limit(request.limit)?,
                page_token: request.page_token,
                device: request.device_id,
            },
            name: request.name,
            min: request.min_value,
            max: request.max_value,
        };
        let page = self.0.readings(&query).await?;
        Ok(Response::new(proto::QueryReadingsResponse {
            readings: page.readings.into_iter().map(Into::into).collect(),
            next_page_token: page.next_page_token,
            presence: Some((&self.0.device(&query.messages.device)?).into()),
            partial: false,
        }))
    }

    async fn publish(
        &self,
        _: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        Err(ServiceError::PublishingIsOff.into())
    }
}

async fn next(
    watcher: Option<Watcher>,
) -> Option<(Result<proto::WatchResponse, Status>, Option<Watcher>)> {
    let mut watcher = watcher?;
    match watcher.next().await {
        Ok(event) => Some((Ok(convert::event(event?)), Some(watcher))),
        Err(error) => Some((Err(error.into()), None)),
    }
}
