//! Commands for devices, whoever took them. In: commands, sessions that come and go with their devices.
//! Out: what the server and the device said. Decides what is allowed, and how much may be under way.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use akri_mqtt_core::details::is_own;
use akri_mqtt_core::topic::TopicName;
use akri_mqtt_runtime::metrics::Registry;
use tokio::sync::{Semaphore, SemaphorePermit, TryAcquireError};

use super::TalkOptions;
use super::audit::Audit;
use super::command::{Command, CommandError, Done};
use super::link::{Link, OwnTopics};
use super::metrics::TalkMetrics;
use crate::api::service::{ServiceError, shorten};
use crate::devices::{Device, Devices};

/// Commands under way: each has a caller that waits.
const UNDER_WAY: usize = 1_024;
/// Payloads of commands under way, in KiB: 32 of the largest.
const KIB_UNDER_WAY: usize = 32 * 1_024;
/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 1 << 20;
/// Bytes of content type and user properties together.
const PROPERTY_BYTES: usize = 32 * 1_024;
/// How long a command may take if its caller does not say.
const TIMEOUT: Duration = Duration::from_secs(30);
/// And at most.
const MOST_TIMEOUT: Duration = Duration::from_secs(300);
/// Filters that an error names.
const NAMED: usize = 10;

/// The time for a command; `field` is what the front calls it.
///
/// # Errors
/// When it is zero, or longer than five minutes.
pub fn timeout(field: &str, asked: Option<Duration>) -> Result<Duration, ServiceError> {
    match asked {
        None => Ok(TIMEOUT),
        Some(time) if !time.is_zero() && time <= MOST_TIMEOUT => Ok(time),
        Some(time) => {
            let why = format!("found {time:?}, allowed: more than 0 and at most {MOST_TIMEOUT:?}");
            Err(ServiceError::invalid(field, why))
        }
    }
}

struct Inner {
    options: TalkOptions,
    /// The session of each device that is served.
    links: RwLock<HashMap<Arc<str>, Arc<Link>>>,
    slots: Semaphore,
    kib: Semaphore,
    metrics: TalkMetrics,
}

/// See the module; clones are the same.
#[derive(Clone)]
pub struct Commands(Arc<Inner>);

impl Default for Commands {
    fn default() -> Self {
        Self::new(TalkOptions::default())
    }
}

/// A place among the commands under way.
struct Place<'a> {
    metrics: &'a TalkMetrics,
    _slot: SemaphorePermit<'a>,
    _kib: SemaphorePermit<'a>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.metrics.waiting.dec();
    }
}

impl Commands {
    /// Without sessions yet.
    #[must_use]
    pub fn new(options: TalkOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            links: RwLock::default(),
            slots: Semaphore::new(UNDER_WAY),
            kib: Semaphore::new(KIB_UNDER_WAY),
            metrics: TalkMetrics::default(),
        }))
    }

    /// Registers what is counted.
    pub fn register(&self, registry: &mut Registry) {
        self.0.metrics.register(registry);
    }

    /// The topics of a session with this client id.
    #[must_use]
    pub fn own_topics(&self, client_id: &str) -> OwnTopics {
        OwnTopics::new(&self.0.options, client_id)
    }

    pub(super) fn metrics(&self) -> &TalkMetrics {
        &self.0.metrics
    }

    pub(super) fn put(&self, device: Arc<str>, link: &Arc<Link>) {
        let mut links = self.0.links.write().unwrap_or_else(PoisonError::into_inner);
        links.insert(device, Arc::clone(link));
    }

    /// A device that is in another session by now stays there.
    pub(super) fn take_out(&self, device: &str, link: &Arc<Link>) {
        let mut links = self.0.links.write().unwrap_or_else(PoisonError::into_inner);
        if links
            .get(device)
            .is_some_and(|found| Arc::ptr_eq(found, link))
        {
            links.remove(device);
        }
    }

    fn link(&self, device: &str) -> Option<Arc<Link>> {
        let links = self.0.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(device).cloned()
    }

    /// Publishes a command and waits for what was asked for.
    ///
    /// # Errors
    /// Why nothing was published, or what was not heard in time.
    pub async fn publish(&self, command: Command, devices: &Devices) -> Result<Done, ServiceError> {
        let audit = Audit::begin(&self.0.metrics, &command);
        let result = self.carry_out(command, devices).await;
        audit.end(&result);
        result
    }

    async fn carry_out(&self, command: Command, devices: &Devices) -> Result<Done, ServiceError> {
        if self.0.options.allow_publish.is_empty() {
            return Err(ServiceError::PublishingIsOff);
        }
        let device = devices.get(&command.device);
        let device = device.ok_or_else(|| ServiceError::unknown_device(&command.device))?;
        check(&command)?;
        self.check_topic(&command, &device)?;
        let link = self.link(&device.id);
        let link = link.ok_or_else(|| CommandError::NotServed(shorten(&device.id)))?;
        let _place = self.place(command.payload.len())?;
        Ok(link.carry_out(command).await?)
    }

    fn check_topic(&self, command: &Command, device: &Device) -> Result<(), ServiceError> {
        let topic = &command.topic;
        if let Err(error) = TopicName::parse(topic) {
            let found = shorten(topic);
            let why = format!("found {found:?}, allowed: an MQTT topic name; {error}");
            return Err(ServiceError::invalid("topic", why));
        }
        let options = &self.0.options;
        let is_ours = is_own(topic) || topic.starts_with('$') || options.announce.has(topic);
        let mut allowed = options.allow_publish.iter();
        if !is_ours && allowed.any(|filter| filter.allows(&device.name, topic)) {
            return Ok(());
        }
        let mut named: Vec<String> = options
            .allow_publish
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        if options.allow_publish.len() > NAMED {
            named.push("…".to_owned());
        }
        let error = CommandError::NotAllowed {
            topic: shorten(topic),
            device: shorten(&device.id),
            allowed: format!(
                "{}, and nothing below akri-mqtt/ or that begins with $",
                named.join(", ")
            ),
        };
        Err(error.into())
    }

    fn place(&self, bytes: usize) -> Result<Place<'_>, CommandError> {
        let kib = u32::try_from(bytes.div_ceil(1_024)).unwrap_or(u32::MAX);
        let too_many = |_: TryAcquireError| {
            let mib = KIB_UNDER_WAY / 1_024;
            CommandError::TooMany(format!("{UNDER_WAY}, of which the payloads have {mib} MiB"))
        };
        let slot = self.0.slots.try_acquire().map_err(too_many)?;
        let kib = self.0.kib.try_acquire_many(kib).map_err(too_many)?;
        self.0.metrics.waiting.inc();
        Ok(Place {
            metrics: &self.0.metrics,
            _slot: slot,
            _kib: kib,
        })
    }
}

/// What can be wrong with a command whatever the device.
fn check(command: &Command) -> Result<(), ServiceError> {
    if command.qos > 2 {
        let why = format!("found {}, allowed: 0, 1 or 2", command.qos);
        return Err(ServiceError::invalid("qos", why));
    }
    let bytes = command.payload.len();
    if bytes > PAYLOAD_BYTES {
        let why = format!("found {bytes} bytes, allowed: {PAYLOAD_BYTES}");
        return Err(ServiceError::invalid("payload", why));
    }
    let user = command.user_properties.iter();
    let texts =
        user.flat_map(|(name, value)| [("user_properties", name), ("user_properties", value)]);
    let texts = texts.chain(
        command
            .content_type
            .iter()
            .map(|text| ("content_type", text)),
    );
    let mut bytes = 0usize;
    for (field, text) in texts {
        bytes = bytes.saturating_add(text.len());
        if bytes > PROPERTY_BYTES {
            let why = format!(
                "found more than {PROPERTY_BYTES} bytes, allowed: so many in content type and user properties together"
            );
            return Err(ServiceError::invalid(field, why));
        }
        if text.contains('\0') {
            let why = "found the null character, which no text of MQTT may have (MQTT 5.0, 1.5.4)";
            return Err(ServiceError::invalid(field, why));
        }
    }
    Ok(())
}
