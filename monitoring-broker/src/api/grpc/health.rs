//! `grpc.health.v1`: what `/readyz` says, for gRPC clients. In: the conditions of the process.
//! Out: one state for the whole server and for Monitoring, and its changes.

use std::pin::Pin;
use std::time::Duration;

use akri_mqtt_runtime::Health;
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_server};

use super::super::Service;
use super::{SERVICES, to};

/// How late a change may be told; conditions cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Readiness {
    service: Service,
    health: Health,
}

impl Readiness {
    pub(super) fn new(service: Service, health: Health) -> Self {
        Self { service, health }
    }
}

fn is_known(service: &str) -> bool {
    service.is_empty() || SERVICES.contains(&service)
}

fn serving(health: &Health) -> ServingStatus {
    if health.is_ready() {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Readiness {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        if !is_known(&request.get_ref().service) {
            return Err(Status::not_found("there is no such service here"));
        }
        Ok(Response::new(response(serving(&self.health))))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let slot = self.service.slot().map_err(to::status)?;
        let known = is_known(&request.get_ref().service);
        let (health, shutdown) = (self.health.clone(), self.service.shutdown.clone());
        let states = stream::unfold((None, slot), move |(before, slot)| {
            let (health, shutdown) = (health.clone(), shutdown.clone());
            async move {
                loop {
                    let now = if known {
                        serving(&health)
                    } else {
                        ServingStatus::ServiceUnknown
                    };
                    if before != Some(now) {
                        return Some((Ok(response(now)), (Some(now), slot)));
                    }
                    tokio::select! {
                        () = shutdown.triggered() => return None,
                        () = tokio::time::sleep(LOOK_EVERY) => {}
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(states)))
    }
}
