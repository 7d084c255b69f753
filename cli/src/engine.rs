//! Runs `up` and `demo`: the Agent's part, the discovery handler over its gRPC socket, and a monitor per device, in one process.
//! In: checked Configurations, bound listeners, a data directory. Out: events. Prints nothing by itself: `report` does.

use std::path::Path;

use akri_mqtt_core::identity::DeviceId;
use akri_mqtt_discovery_handler::credentials::Files;
use akri_mqtt_discovery_handler::{Config, Handler, Presences};
use akri_mqtt_monitoring_broker::SinkOptions;
use akri_mqtt_monitoring_broker::access::AccessFiles;
use akri_mqtt_monitoring_broker::talk::TalkOptions;
use akri_mqtt_runtime::Shutdown;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior};

use crate::agent::{Agent, List};
use crate::args::CredentialSources;
use crate::configuration::Configuration;
use crate::credentials::Accounts;
use crate::fleet::{Fleet, FleetParts};
use crate::in_process::{handler_config, hosts, requests, socket_directory};
use crate::output::Reader;
use crate::report::{Event, Kind, Reporter};
use crate::roster::Template;

/// Time between two frames of a live table.
const FRAME: Duration = Duration::from_millis(250);

/// How long the first lists of all Configurations are waited for: a roster that was kept is sent at once.
const FIRST_LISTS: Duration = Duration::from_millis(500);

/// What an engine is made of.
pub struct Setup<'a> {
    /// The Configurations; all of them for our handler.
    pub configurations: &'a [Configuration],
    /// Where credentials are found.
    pub credentials: &'a CredentialSources,
    /// Where data, rosters and session states are kept.
    pub data_dir: &'a Path,
    /// Where every message is sent on.
    pub sinks: Vec<SinkOptions>,
    /// Serves the HTTP API.
    pub http: TcpListener,
    /// Serves the gRPC API.
    pub grpc: TcpListener,
    /// Who may use both.
    pub access: AccessFiles,
    /// What the monitors may say on MQTT.
    pub talk: TalkOptions,
}

/// Everything that runs.
pub struct Engine {
    agent: Agent,
    handler: Handler,
    presences: Presences,
    fleet: Fleet,
    lists: mpsc::Receiver<List>,
    /// How many Configurations there are.
    requests: usize,
    /// Stops the agent's part and the handler; not the user's signal, so that the order of the stop is ours.
    stop: Shutdown,
    /// Where the sockets are; removed at the end.
    _sockets: TempDir,
}

impl Engine {
    /// Starts it all.
    ///
    /// # Errors
    /// Credentials that cannot be found (exit code 2), or a part that does not start.
    pub async fn start(setup: Setup<'_>) -> anyhow::Result<Self> {
        let requests = requests(setup.configurations, setup.credentials)?;
        let sockets = socket_directory()?;
        let stop = Shutdown::new();
        let (agent, lists) = Agent::start(sockets.path(), requests.clone(), stop.token())?;
        let config = Config {
            state_dir: Some(setup.data_dir.join("handler")),
            ..handler_config(sockets.path().to_owned(), setup.credentials)
        };
        let handler = Handler::start(config, stop.clone()).await?;
        let templates: Vec<Template> = setup.configurations.iter().map(Template::of).collect();
        let properties: Vec<_> = requests.into_iter().map(|r| r.properties).collect();
        let files = files(setup.credentials, &handler);
        let fleet = Fleet::start(FleetParts {
            accounts: Accounts::new(&templates, &properties, files),
            templates,
            data_dir: &setup.data_dir.join("store"),
            sinks: setup.sinks,
            http: setup.http,
            grpc: setup.grpc,
            access: setup.access,
            talk: setup.talk,
        })
        .await?;
        Ok(Self {
            agent,
            presences: handler.presence(),
            handler,
            fleet,
            lists,
            requests: setup.configurations.len(),
            stop,
            _sockets: sockets,
        })
    }

    /// Tells what happens until `until`, a stop, or the end of whoever reads standard output.
    ///
    /// # Errors
    /// Standard output cannot be written. That a part of the process died is told by [`Engine::stop`].
    pub async fn run(
        &mut self,
        reporter: &mut Reporter,
        messages: &mut Option<mpsc::Receiver<Event>>,
        until: Option<Instant>,
        shutdown: &Shutdown,
    ) -> anyhow::Result<()> {
        let first = self.first_lists().await;
        if self.take(first, reporter).await? == Reader::Gone {
            return Ok(());
        }
        let mut frames = tokio::time::interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reader = tokio::select! {
                () = shutdown.triggered() => return Ok(()),
                () = sleep_until(until) => return Ok(()),
                () = self.stop.triggered() => return Ok(()),
                () = self.fleet.watch() => return Ok(()),
                Some(list) = self.lists.recv() => tokio::select! {
                    // Thousands of monitors take a moment to start, and a stop must not wait for them.
                    () = shutdown.triggered() => return Ok(()),
                    told = self.take(vec![list], reporter) => told?,
                },
                Some(message) = next(messages) => reporter.event(&message)?,
                _ = frames.tick() => reporter.tick(Timestamp::now())?,
            };
            if reader == Reader::Gone {
                return Ok(());
            }
        }
    }

    /// The first list of each Configuration, as far as they come soon: those of a restart do, and their devices may share a
    /// session that is resumed.
    async fn first_lists(&mut self) -> Vec<List> {
        let mut lists: Vec<List> = Vec::new();
        let gather = async {
            while lists.len() < self.requests {
                match self.lists.recv().await {
                    Some(list) => lists.push(list),
                    None => return,
                }
            }
        };
        // Those that come later are taken as they come.
        let _ = tokio::time::timeout(FIRST_LISTS, gather).await;
        lists
    }

    async fn take(&mut self, lists: Vec<List>, reporter: &mut Reporter) -> anyhow::Result<Reader> {
        for (id, mut event) in self.fleet.apply(lists).await? {
            if let Kind::Offline { reason } = &mut event.kind {
                *reason = self.reason(&id).await;
            }
            if reporter.event(&event)? == Reader::Gone {
                return Ok(Reader::Gone);
            }
        }
        Ok(Reader::Listening)
    }

    /// Why a device is not there any more, in the handler's words.
    async fn reason(&self, id: &DeviceId) -> Option<String> {
        let answer = self.presences.one(id).await;
        let mut views = answer
            .requests
            .into_iter()
            .map(|request| request.device.explanation);
        views
            .find(|view| !view.published)
            .map(|view| view.explanation)
    }

    /// Stops it all within 5 s: monitors first, so that what the servers have sent is stored.
    ///
    /// # Errors
    /// A part that died before, with its reason.
    pub async fn stop(self) -> anyhow::Result<()> {
        let (monitors, handler) = tokio::join!(self.fleet.close(), self.handler.close());
        self.stop.trigger();
        self.agent.join().await;
        monitors.and(handler)
    }
}

/// The files of `--credentials-dir`, for the monitors.
fn files(sources: &CredentialSources, handler: &Handler) -> Files {
    let Some(directory) = sources.credentials_dir.clone() else {
        return Files::none();
    };
    let tasks = handler.tasks();
    let (files, reading) = Files::watch(directory, hosts(sources), tasks.shutdown().clone());
    tasks.critical("credentials of monitors", reading);
    files
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

async fn next(messages: &mut Option<mpsc::Receiver<Event>>) -> Option<Event> {
    match messages {
        Some(messages) => messages.recv().await,
        None => std::future::pending().await,
    }
}
