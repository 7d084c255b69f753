//! What the Leases of a pool are called, and what is written on them. In: the Configuration. Out: names, labels,
//! annotations. `<configuration>-pool` is what all members agree on, `<configuration>-pool-member-<name>` is
//! renewed by a member, `<configuration>-pool-shard-<n>` names the shard's holder and the store that had it last.

use std::collections::BTreeMap;
use std::sync::Arc;

use akri_mqtt_cluster::{Record, lease};
use akri_mqtt_core::pool::{Member, Shard, ShardCount};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::Own;
use crate::pool::peer::Peer;

/// Label of every Lease of a pool: its Configuration.
const POOL: &str = "mqtt.akri.sh/pool";
/// Annotation of the pool's Lease: its random id.
const ID: &str = "mqtt.akri.sh/pool-id";
/// Annotation of the pool's Lease, and of a Configuration: the number of shards.
pub const SHARDS: &str = "mqtt.akri.sh/shards";
/// Annotation of a shard's Lease: the store that had it last.
const STORE: &str = "mqtt.akri.sh/store";
/// Annotation of a member's Lease: it gives its shards back and takes no more.
const LEAVING: &str = "mqtt.akri.sh/leaving";
/// Annotation of a member's Lease: what it says of itself, as JSON.
const PEER: &str = "mqtt.akri.sh/peer";

/// The longest name in Kubernetes.
const LONGEST: usize = 253;
/// The longest value of a label.
const LONGEST_LABEL: usize = 63;

/// Why a name cannot be part of a Lease's.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    /// No name of a Configuration.
    #[error(
        "--pool {0:?}: allowed is the name of a Configuration: at most {LONGEST_LABEL} characters out of a-z, 0-9, `-` and `.`, with a letter or digit at both ends"
    )]
    Configuration(String),
    /// No name of a member.
    #[error(
        "--instance {0:?}: with --pool it is part of a Lease's name: a-z, 0-9, `-` and `.`, with a letter or digit at both ends, at most {LONGEST} characters together with the Configuration's name"
    )]
    Member(String),
}

/// One process as long as it is a member without a break: `<member>_<random>`, like no other one's, ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<str>);

impl Identity {
    /// A new one.
    pub fn new(member: &Member) -> Self {
        Self(format!("{member}_{:08x}", rand::random::<u32>()).into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// Whose it is.
    pub fn member_of(holder: &str) -> Option<Member> {
        let (member, _) = holder.rsplit_once('_')?;
        Member::parse(member).ok()
    }
}

/// What a Lease is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    Pool,
    Member(Member),
    Shard(Shard),
}

/// What all members agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub id: String,
    pub shards: ShardCount,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Names {
    configuration: Arc<str>,
}

impl Names {
    /// The names for a Configuration's pool.
    pub fn new(configuration: &str) -> Result<Self, NameError> {
        if configuration.len() > LONGEST_LABEL || !is_dns(configuration) {
            return Err(NameError::Configuration(configuration.to_owned()));
        }
        Ok(Self {
            configuration: configuration.into(),
        })
    }

    pub fn configuration(&self) -> &str {
        &self.configuration
    }

    /// Selects every Lease of the pool.
    pub fn label(&self) -> String {
        format!("{POOL}={}", self.configuration)
    }

    /// The name of a Lease.
    pub fn of(&self, about: &About) -> String {
        let pool = format!("{}-pool", self.configuration);
        match about {
            About::Pool => pool,
            About::Member(member) => format!("{pool}-member-{member}"),
            About::Shard(shard) => format!("{pool}-shard-{shard}"),
        }
    }

    /// Whether a member of this name can have a Lease.
    pub fn check(&self, member: &Member) -> Result<(), NameError> {
        let name = self.of(&About::Member(member.clone()));
        if name.len() <= LONGEST && is_dns(member.as_str()) {
            Ok(())
        } else {
            Err(NameError::Member(member.to_string()))
        }
    }

    /// What a Lease of the pool is about; none for one that somebody else made.
    pub fn about(&self, lease: &Lease, shards: ShardCount) -> Option<About> {
        let name = lease.metadata.name.as_deref()?;
        let rest = name
            .strip_prefix(&*self.configuration)?
            .strip_prefix("-pool")?;
        if rest.is_empty() {
            return Some(About::Pool);
        }
        if let Some(member) = rest.strip_prefix("-member-") {
            return Member::parse(member).ok().map(About::Member);
        }
        let number = rest.strip_prefix("-shard-")?;
        let shard = shards.all().nth(number.parse().ok()?)?;
        (shard.to_string() == number).then_some(About::Shard(shard))
    }

    /// The Lease that holds what all agree on.
    pub fn pool(&self, facts: &Facts) -> Lease {
        let annotations = [(ID, facts.id.clone()), (SHARDS, facts.shards.to_string())];
        self.marked(lease::lease(None, &Record::default()), annotations)
    }

    /// A member's Lease. With the pod that it runs in it goes.
    pub fn member(
        &self,
        before: Option<&Lease>,
        record: &Record,
        own: &Own,
        is_leaving: bool,
    ) -> Lease {
        // An address and an id are always written.
        let says = serde_json::to_string(&own.says).unwrap_or_default();
        let mut made = self.marked(lease::lease(before, record), [(PEER, says)]);
        let annotations = made.metadata.annotations.get_or_insert_default();
        if is_leaving {
            annotations.insert(LEAVING.to_owned(), "true".to_owned());
        } else {
            annotations.remove(LEAVING);
        }
        made.metadata.owner_references = own.pod.as_ref().map(|pod| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.name.clone(),
                uid: pod.uid.clone(),
                ..OwnerReference::default()
            }]
        });
        made
    }

    /// A shard's Lease; without a holder the shard is free.
    pub fn shard(&self, before: Option<&Lease>, holder: Option<&Identity>, store: &str) -> Lease {
        let old = before.map(lease::record).unwrap_or_default();
        let record = Record {
            holder: holder.map(Identity::shared),
            lease: None,
            renewed: Some(now()),
            transitions: old.transitions.saturating_add(i32::from(holder.is_some())),
        };
        let store = [(STORE, store.to_owned())];
        self.marked(lease::lease(before, &record), store)
    }

    fn marked<const N: usize>(&self, mut lease: Lease, annotations: [(&str, String); N]) -> Lease {
        let labels = lease.metadata.labels.get_or_insert_default();
        labels.insert(POOL.to_owned(), self.configuration.to_string());
        let kept: &mut BTreeMap<_, _> = lease.metadata.annotations.get_or_insert_default();
        let annotations = annotations.into_iter();
        kept.extend(annotations.map(|(name, value)| (name.to_owned(), value)));
        lease
    }
}

/// As it is written into Leases.
pub fn now() -> Timestamp {
    lease::microseconds(Timestamp::now())
}

/// What the pool's Lease says, or what is wrong with it.
pub fn facts(lease: &Lease) -> Result<Facts, String> {
    let wrong = |name: &str, found: Option<&str>| {
        format!("annotation {name}: found {}", found.unwrap_or("none"))
    };
    let (id, shards) = (annotation(lease, ID), annotation(lease, SHARDS));
    let id = id
        .filter(|id| !id.is_empty())
        .ok_or_else(|| wrong(ID, id))?;
    let count = shards.and_then(|shards| shards.parse().ok());
    Ok(Facts {
        id: id.to_owned(),
        shards: count.ok_or_else(|| wrong(SHARDS, shards))?,
    })
}

/// The store that had a shard last.
pub fn last_store(lease: &Lease) -> Option<&str> {
    annotation(lease, STORE).filter(|store| !store.is_empty())
}

/// Whether a Lease names somebody as its holder.
pub fn is_held_by(lease: &Lease, holder: &Identity) -> bool {
    let spec = lease.spec.as_ref();
    spec.and_then(|spec| spec.holder_identity.as_deref()) == Some(holder.as_str())
}

/// Whether a member gives its shards back.
pub fn is_leaving(lease: &Lease) -> bool {
    annotation(lease, LEAVING).is_some()
}

/// What a member says of itself; none if it cannot be understood.
pub fn peer(lease: &Lease) -> Option<Peer> {
    serde_json::from_str(annotation(lease, PEER)?).ok()
}

fn annotation<'a>(lease: &'a Lease, name: &str) -> Option<&'a str> {
    let annotations = lease.metadata.annotations.as_ref()?;
    annotations.get(name).map(String::as_str)
}

/// A DNS subdomain, but for its length.
fn is_dns(name: &str) -> bool {
    let alone = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |label: &str| {
        let inside = label.chars().all(|c| alone(c) || c == '-');
        inside && label.starts_with(alone) && label.ends_with(alone)
    };
    name.split('.').all(label)
}
