//! Topics of Sparkplug B: `spBv1.0/<group>/<type>/<edge node>[/<device>]` (Eclipse Sparkplug 3.0, 4.1).
//! In: topics. Out: their parts, and the topics of births and requests that belong to them.

/// The first level of all topics.
pub(crate) const NAMESPACE: &str = "spBv1.0";
/// Host Applications state here whether they are there: `spBv1.0/STATE/<host id>`.
const STATE: &str = "STATE";

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Birth,
    Death,
    Data,
    Command,
}

/// A topic of an Edge Node, or of a device behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Topic<'t> {
    pub group: &'t str,
    pub verb: Verb,
    pub node: &'t str,
    pub device: Option<&'t str>,
}

impl<'t> Topic<'t> {
    /// None for a topic that is no Edge Node's; levels may be empty.
    pub(crate) fn parse(topic: &'t str) -> Option<Self> {
        let mut levels = topic.split('/');
        let (namespace, group, kind) = (levels.next()?, levels.next()?, levels.next()?);
        if namespace != NAMESPACE {
            return None;
        }
        let (node, device) = (levels.next()?, levels.next());
        let verb = match (kind, device) {
            ("NBIRTH", None) | ("DBIRTH", Some(_)) => Verb::Birth,
            ("NDEATH", None) | ("DDEATH", Some(_)) => Verb::Death,
            ("NDATA", None) | ("DDATA", Some(_)) => Verb::Data,
            ("NCMD", None) | ("DCMD", Some(_)) => Verb::Command,
            _ => return None,
        };
        levels.next().is_none().then_some(Self {
            group,
            verb,
            node,
            device,
        })
    }

    /// The same about something else.
    pub(crate) fn with(self, verb: Verb) -> String {
        let Self {
            group,
            node,
            device,
            ..
        } = self;
        let word = match verb {
            Verb::Birth => "BIRTH",
            Verb::Death => "DEATH",
            Verb::Data => "DATA",
            Verb::Command => "CMD",
        };
        match device {
            None => format!("{NAMESPACE}/{group}/N{word}/{node}"),
            Some(device) => format!("{NAMESPACE}/{group}/D{word}/{node}/{device}"),
        }
    }
}

/// Whether messages of a topic are birth certificates.
#[must_use]
pub fn is_birth(topic: &str) -> bool {
    Topic::parse(topic).is_some_and(|topic| topic.verb == Verb::Birth)
}

/// Whether a topic is of Sparkplug B, whose payloads nothing else reads.
#[must_use]
pub fn is_payload(topic: &str) -> bool {
    Topic::parse(topic).is_some()
}

/// The topic of the births that explain the messages of a topic; none for topics that are not Sparkplug's.
#[must_use]
pub fn birth_of(topic: &str) -> Option<String> {
    Topic::parse(topic).map(|topic| topic.with(Verb::Birth))
}

/// Where a Host Application states whether it is there.
pub(super) fn state_of(host: &str) -> String {
    format!("{NAMESPACE}/{STATE}/{host}")
}
