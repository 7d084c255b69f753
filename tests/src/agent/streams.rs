//! Calls Discover and follows the streams as Akri's Agent does. In: a Configuration's request, endpoints. Out: its Instances,
//! and what happened.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard};
use std::time::Instant;

use akri_mqtt_proto::akri::discovery_handler_client::DiscoveryHandlerClient;
use akri_mqtt_proto::akri::register_discovery_handler_request::EndpointType;
use akri_mqtt_proto::akri::{Device, DiscoverRequest, DiscoverResponse};
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use super::{Happened, Shared, State, Stream, instance_name};

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn log(&self, happened: Happened) {
        self.lock().happened.push((Instant::now(), happened));
        self.changed.send_modify(|count| *count += 1);
    }

    pub(super) fn start_asking(self: &Arc<Self>, name: &str) {
        let shared = Arc::clone(self);
        let owned = name.to_owned();
        let mut state = self.lock();
        if let Some(configuration) = state.configurations.get_mut(name) {
            let asking = tokio::spawn(async move { shared.ask(&owned).await });
            configuration.asking = Some(asking.abort_handle());
        }
    }

    /// Makes a new request, again and again until every registered endpoint has answered.
    async fn ask(self: &Arc<Self>, name: &str) {
        let mut wait = self.options.first_retry;
        while !self.try_request(name).await {
            tokio::time::sleep(wait).await;
            wait *= 2;
        }
    }

    async fn try_request(self: &Arc<Self>, name: &str) -> bool {
        let (request, endpoints) = {
            let state = self.lock();
            let Some(configuration) = state.configurations.get(name) else {
                return true;
            };
            let endpoints = state.handlers.get(&configuration.handler);
            (
                configuration.request.clone(),
                endpoints.cloned().unwrap_or_default(),
            )
        };
        let mut opened = Vec::new();
        for (endpoint, kind) in &endpoints {
            match self.query(name, endpoint, *kind, request.clone()).await {
                Ok(stream) => opened.push((endpoint.clone(), stream)),
                Err(()) => return false,
            }
        }
        if opened.is_empty() {
            return false;
        }
        if let Some(configuration) = self.lock().configurations.get_mut(name) {
            configuration.streams = Some(Vec::new());
        }
        // A new request begins with an empty list, whatever there was before.
        self.reconcile(name);
        for (endpoint, stream) in opened {
            self.add_stream(name, &endpoint, stream);
        }
        true
    }

    pub(super) async fn query(
        self: &Arc<Self>,
        configuration: &str,
        endpoint: &str,
        kind: EndpointType,
        request: DiscoverRequest,
    ) -> Result<Streaming<DiscoverResponse>, ()> {
        let failing = {
            let mut state = self.lock();
            let failing = state.failing > 0;
            state.failing = state.failing.saturating_sub(1);
            failing
        };
        let called = if failing {
            Err(Status::failed_precondition(
                "the Agent cannot read a Secret",
            ))
        } else {
            discover(endpoint, kind, self.options.max_message, request).await
        };
        match called {
            Ok(stream) => {
                self.log(Happened::Opened {
                    configuration: configuration.to_owned(),
                    endpoint: endpoint.to_owned(),
                });
                Ok(stream)
            }
            Err(status) => {
                if status.code() == Code::Unavailable {
                    for endpoints in self.lock().handlers.values_mut() {
                        endpoints.remove(endpoint);
                    }
                }
                self.log(Happened::Failed {
                    configuration: configuration.to_owned(),
                    code: status.code(),
                    message: status.message().to_owned(),
                });
                Err(())
            }
        }
    }

    pub(super) fn add_stream(
        self: &Arc<Self>,
        name: &str,
        endpoint: &str,
        stream: Streaming<DiscoverResponse>,
    ) {
        let mut state = self.lock();
        state.next_stream += 1;
        let id = state.next_stream;
        let Some(configuration) = state.configurations.get_mut(name) else {
            return;
        };
        let shared = Arc::clone(self);
        let (owned, owned_endpoint) = (name.to_owned(), endpoint.to_owned());
        let reader =
            tokio::spawn(async move { shared.read(&owned, &owned_endpoint, id, stream).await });
        configuration.streams.get_or_insert_default().push(Stream {
            id,
            endpoint: endpoint.to_owned(),
            devices: Vec::new(),
            reader: Some(reader.abort_handle()),
        });
    }

    async fn read(
        self: &Arc<Self>,
        name: &str,
        endpoint: &str,
        id: u64,
        mut stream: Streaming<DiscoverResponse>,
    ) {
        let error = loop {
            match stream.message().await {
                Ok(Some(list)) => self.take_list(name, endpoint, id, list),
                Ok(None) => break None,
                Err(status) => break Some(status.message().to_owned()),
            }
        };
        self.log(Happened::Ended {
            configuration: name.to_owned(),
            endpoint: endpoint.to_owned(),
            error,
        });
        let over = {
            let mut state = self.lock();
            let configuration = state.configurations.get_mut(name);
            let streams = configuration.and_then(|c| c.streams.as_mut());
            streams.is_some_and(|streams| {
                streams.retain(|stream| stream.id != id);
                streams.is_empty()
            })
        };
        if over && let Some(configuration) = self.lock().configurations.get_mut(name) {
            configuration.streams = None;
        }
        self.reconcile(name);
        if over {
            self.start_asking(name);
        }
    }

    fn take_list(self: &Arc<Self>, name: &str, endpoint: &str, id: u64, list: DiscoverResponse) {
        let devices = list
            .devices
            .iter()
            .map(|device| device.id.clone())
            .collect();
        if let Some(configuration) = self.lock().configurations.get_mut(name) {
            let streams = configuration.streams.iter_mut().flatten();
            for stream in streams.filter(|stream| stream.id == id) {
                stream.devices.clone_from(&list.devices);
                debug_assert_eq!(stream.endpoint, endpoint);
            }
        }
        self.reconcile(name);
        self.log(Happened::List {
            configuration: name.to_owned(),
            endpoint: endpoint.to_owned(),
            devices,
        });
    }

    /// Deletes the Instances that no list names and applies those that one does.
    pub(super) fn reconcile(&self, name: &str) {
        let mut log = Vec::new();
        let mut state = self.lock();
        if let Some(configuration) = state.configurations.get_mut(name) {
            let mut wanted: BTreeMap<String, Device> = BTreeMap::new();
            for device in configuration
                .streams
                .iter()
                .flatten()
                .flat_map(|s| &s.devices)
            {
                let instance = instance_name(name, &device.id);
                wanted.entry(instance).or_insert_with(|| device.clone());
            }
            let now = Instant::now();
            let deletion = self.options.deletion;
            configuration
                .deleting
                .retain(|_, since| *since + deletion > now);
            configuration.instances.retain(|instance, device| {
                let stays = wanted.contains_key(instance);
                if !stays {
                    configuration.deleting.insert(instance.clone(), now);
                    let (instance, device) = (instance.clone(), device.id.clone());
                    log.push(Happened::Deleted { instance, device });
                }
                stays
            });
            for (instance, device) in wanted {
                let lost = !deletion.is_zero() && configuration.deleting.contains_key(&instance);
                if !lost && !configuration.instances.contains_key(&instance) {
                    let id = device.id.clone();
                    configuration.instances.insert(instance.clone(), device);
                    log.push(Happened::Created {
                        instance,
                        device: id,
                    });
                }
            }
        }
        // Who sees the Instances sees what happened to them, so both change under one lock.
        let now = Instant::now();
        let log = log.into_iter().map(|happened| (now, happened));
        state.happened.extend(log);
        drop(state);
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Calls Discover on an endpoint as the Agent does.
///
/// # Errors
/// `UNAVAILABLE` when nothing listens there, else what the handler answered.
pub async fn discover(
    endpoint: &str,
    kind: EndpointType,
    max_message: usize,
    request: DiscoverRequest,
) -> Result<Streaming<DiscoverResponse>, Status> {
    let address = match kind {
        EndpointType::Uds => format!("unix:{endpoint}"),
        EndpointType::Network => endpoint.to_owned(),
    };
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let channel = Endpoint::from_shared(address)
        .map_err(unavailable)?
        .connect()
        .await
        .map_err(unavailable)?;
    let mut client = DiscoveryHandlerClient::new(channel).max_decoding_message_size(max_message);
    Ok(client.discover(request).await?.into_inner())
}
