//! The conventions of one machine. In: messages. Out: what they say about which devices, in the
//! words of `rules`. What a convention understands is left to its module.

use super::devices::ServerIndex;
use super::machine::Presence;
use super::rules::{At, Finding, Names, Source};
use super::tick::Tick;
use super::{Inbound, Outgoing};
use crate::convention::{Context, Filters, Module, Said, Verdict};
use crate::details::{Convention, Details};
use crate::identity::DeviceId;
use crate::properties::DeviceSpec;
use crate::topic::TopicFilter;

/// All conventions, in the order in which they are asked.
#[derive(Debug)]
pub(super) struct Conventions {
    all: Vec<Running>,
    filters: Filters,
    /// Those of data whose payloads say in which order they were sent.
    numbered: Vec<TopicFilter>,
    said: Vec<Said>,
    revision: u64,
}

/// One of them, with a module for each server.
#[derive(Debug)]
struct Running {
    origin: Origin,
    modules: Vec<Box<dyn Module>>,
    /// What [`Module::revision`] was, by server.
    revisions: Vec<u64>,
    /// Where it announces devices, but for what payloads have named: a few.
    announcing: Vec<TopicFilter>,
    /// Whether the snapshot lacks one of its announcements, by server.
    lacks: Vec<bool>,
}

impl Running {
    /// Whether it announces devices on a topic of a server.
    fn announces(&self, server: ServerIndex, topic: &str) -> bool {
        let module = self.modules.get(usize::from(server));
        self.announcing.iter().any(|filter| filter.matches(topic))
            || module.is_some_and(|module| module.announces(topic))
    }
}

/// What a convention gives to its findings.
#[derive(Clone, Copy, Debug)]
struct Origin {
    source: Source,
    overrides: bool,
    lists: bool,
    tells_changes: bool,
}

impl Presence {
    /// The place in `conventions` of the one that found a device; `None` if none did. It stays
    /// while the device is published.
    #[must_use]
    pub fn found_by(&self, id: &DeviceId) -> Option<u16> {
        let server = self.server_index(id.server())?;
        let slot = self.devices.find(server, id.name())?;
        self.devices.get(slot)?.found_by
    }
}

impl Conventions {
    pub fn of_details(details: &Details, servers: usize) -> Self {
        let prefixes = details.conventions.iter().filter_map(|c| match c {
            Convention::HomeAssistant { prefix } => Some(prefix.clone()),
            _ => None,
        });
        let context = Context {
            client_id_prefix: details.mqtt.client_id_prefix.clone(),
            home_assistant: prefixes.collect(),
            announced: announced(details),
            device: None,
        };
        Self::new(&details.conventions, &context, servers)
    }

    pub fn of_device(device: &DeviceSpec) -> Self {
        let context = Context {
            client_id_prefix: device.mqtt.client_id_prefix.clone(),
            home_assistant: Vec::new(),
            announced: Vec::new(),
            device: Some(device.id.plain_name().to_owned()),
        };
        Self::new(device.convention.as_slice(), &context, 1)
    }

    fn new(conventions: &[Convention], context: &Context, servers: usize) -> Self {
        let mut filters = Filters::default();
        let (mut all, mut numbered) = (Vec::new(), Vec::new());
        for (convention, index) in conventions.iter().zip(0..) {
            let modules = (0..servers).map(|_| convention.module(context));
            let wanted = convention.filters(context.device.as_deref());
            all.push(Running {
                origin: Origin {
                    source: Source::Convention(index),
                    overrides: convention.data_overrides(),
                    lists: convention.lists(),
                    tells_changes: convention.tells_changes_only(),
                },
                modules: modules.collect(),
                revisions: vec![0; servers],
                announcing: wanted.announcing.clone(),
                lacks: vec![false; servers],
            });
            if convention.numbers_data() {
                numbered.extend(wanted.data.iter().cloned());
            }
            filters.announcing.extend(wanted.announcing);
            filters.data.extend(wanted.data);
        }
        Self {
            all,
            filters,
            numbered,
            said: Vec::new(),
            revision: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// What they want to be subscribed.
    pub fn filters(&self) -> Filters {
        self.filters.clone()
    }

    /// Changes whenever [`Conventions::named`] does for a server.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// What else is to be subscribed on a server, because payloads have named it.
    pub fn named(&self, server: ServerIndex) -> Filters {
        let mut all = Filters::default();
        for running in &self.all {
            if let Some(module) = running.modules.get(usize::from(server)) {
                let named = module.named();
                all.announcing.extend(named.announcing);
                all.data.extend(named.data);
            }
        }
        all
    }

    /// Whether payloads on a topic of a server decide something.
    pub fn decides(&self, server: ServerIndex, topic: &str) -> bool {
        let announces = self.all.iter().any(|one| one.announces(server, topic));
        announces || self.numbered.iter().any(|filter| filter.matches(topic))
    }

    /// A connection to a server begins.
    pub fn connected(&mut self, server: ServerIndex) {
        for running in &mut self.all {
            if let Some(module) = running.modules.get_mut(usize::from(server)) {
                module.connected();
            }
            if let Some(lacks) = running.lacks.get_mut(usize::from(server)) {
                *lacks = false;
            }
        }
    }

    /// The snapshot of a server lacks the message of a topic. True if it announces devices.
    pub fn lacks(&mut self, server: ServerIndex, topic: &str) -> bool {
        let index = usize::from(server);
        let mut any = false;
        for running in &mut self.all {
            if running.announces(server, topic)
                && let Some(lacks) = running.lacks.get_mut(index)
            {
                *lacks = true;
                any = true;
            }
        }
        any
    }

    /// A server has kept nothing for us.
    pub fn session_lost(&mut self, names: &Names, server: ServerIndex, found: &mut Vec<Finding>) {
        self.tell(names, server, found, |module, _, said| {
            module.session_lost(said);
        });
    }

    /// The snapshot of a server is complete.
    pub fn snapshot_complete(
        &mut self,
        names: &Names,
        (server, now): (ServerIndex, Tick),
        found: &mut Vec<Finding>,
    ) {
        self.tell(names, server, found, |module, lacks, said| {
            if !lacks {
                module.snapshot_complete(now, said);
            }
        });
    }

    /// A device that the convention in this place found was there before the restart.
    pub fn restored(&mut self, server: ServerIndex, convention: u16, device: &str) {
        let running = self.all.get_mut(usize::from(convention));
        if let Some(module) = running.and_then(|one| one.modules.get_mut(usize::from(server))) {
            module.restored(device);
        }
    }

    /// Whether a convention tells of a device only when it comes and goes.
    pub fn tells_changes_only(&self, convention: u16) -> bool {
        let running = self.all.get(usize::from(convention));
        running.is_some_and(|running| running.origin.tells_changes)
    }

    /// When to wake them.
    pub fn next(&self) -> Option<Tick> {
        let modules = self.all.iter().flat_map(|running| &running.modules);
        modules.filter_map(|module| module.next()).min()
    }

    pub fn wake(&mut self, now: Tick) {
        for module in self.all.iter_mut().flat_map(|running| &mut running.modules) {
            module.wake(now);
        }
    }

    /// Takes what is to be published, each with the place of its server.
    pub fn outgoing(&mut self, millis: u64) -> Vec<(usize, Outgoing)> {
        let (mut all, mut of_server) = (Vec::new(), Vec::new());
        for running in &mut self.all {
            for (index, module) in running.modules.iter_mut().enumerate() {
                module.outgoing(millis, &mut of_server);
                all.extend(of_server.drain(..).map(|one| (index, one)));
            }
        }
        all
    }

    fn tell(
        &mut self,
        names: &Names,
        server: ServerIndex,
        found: &mut Vec<Finding>,
        what: impl Fn(&mut dyn Module, bool, &mut Vec<Said>),
    ) {
        let index = usize::from(server);
        for running in &mut self.all {
            let lacks = running.lacks.get(index).is_some_and(|lacks| *lacks);
            if let Some(module) = running.modules.get_mut(index) {
                what(module.as_mut(), lacks, &mut self.said);
            }
            let (findings, origin) = (self.said.drain(..), running.origin);
            found.extend(findings.filter_map(|said| finding(names, said, origin)));
        }
    }

    pub fn read(
        &mut self,
        names: &Names,
        at: &At<'_>,
        message: &Inbound<'_>,
        found: &mut Vec<Finding>,
    ) -> Verdict {
        let mut nobody = Verdict::NotMine;
        for running in &mut self.all {
            let index = usize::from(at.server);
            let (Some(module), Some(revision)) = (
                running.modules.get_mut(index),
                running.revisions.get_mut(index),
            ) else {
                continue;
            };
            let verdict = module.read(message, at.now, &mut self.said);
            if std::mem::replace(revision, module.revision()) != module.revision() {
                self.revision += 1;
            }
            let only_data = !self.said.is_empty() && self.said.iter().all(Said::is_data);
            let (findings, origin) = (self.said.drain(..), running.origin);
            found.extend(findings.filter_map(|said| finding(names, said, origin)));
            match verdict {
                Verdict::NotMine => {}
                // Another convention's, or an entry's, topics may look the same.
                Verdict::Taken if only_data && !found.iter().any(|one| at.concerns(one)) => {
                    found.clear();
                    nobody = Verdict::Unclaimed;
                }
                verdict => return verdict,
            }
        }
        nobody
    }
}

/// What a module has said, with the name that the device has here.
fn finding(names: &Names, said: Said, origin: Origin) -> Option<Finding> {
    let (device, is_one) = match names {
        Names::Entries(details) => (details.identifier().salted(&said.device), false),
        Names::One(spec) if said.device == spec.id.plain_name() => {
            (spec.id.name().to_owned(), true)
        }
        Names::One(_) => return None,
    };
    Some(Finding {
        device,
        evidence: said.evidence,
        source: origin.source,
        overrides: origin.overrides,
        lists: origin.lists,
        retained_will: true,
        appears: said.appears || is_one,
    })
}

/// Where devices are announced otherwise than by Home Assistant's discovery.
fn announced(details: &Details) -> Vec<TopicFilter> {
    let others = details
        .conventions
        .iter()
        .filter(|convention| !matches!(convention, Convention::HomeAssistant { .. }));
    let rules = details.presence.availability.iter();
    others
        .flat_map(|convention| convention.filters(None).announcing)
        .chain(rules.map(|rule| rule.topic.filter().clone()))
        .collect()
}
