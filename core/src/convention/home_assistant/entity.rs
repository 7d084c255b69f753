//! An entity of Home Assistant. In: what is published on its availability topics. Out: whether it is
//! available. Which topics those are is left to `config`.

use std::collections::BTreeSet;

use serde_json::Value;

/// What a text takes beside its own bytes.
const PER_TEXT: usize = 256;

/// One entity.
#[derive(Debug, Default)]
pub(super) struct Entity {
    pub availability: Vec<Availability>,
    pub mode: Mode,
    /// What the availability topic that spoke last said.
    pub latest: Option<bool>,
    pub states: Vec<String>,
}

/// A topic on which an entity's availability is announced.
#[derive(Debug)]
pub(super) struct Availability {
    pub topic: String,
    pub online: String,
    pub offline: String,
    /// `{{ value_json.a.b }}`; empty: the whole payload.
    pub path: Vec<String>,
    /// What it says, as far as it was heard.
    pub state: Option<bool>,
}

/// How several availability topics go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    All,
    Any,
    #[default]
    Latest,
}

impl Entity {
    /// Whether it is available, if that is known.
    pub fn is_available(&self) -> Option<bool> {
        let states = || self.availability.iter().map(|one| one.state);
        match self.mode {
            Mode::Latest => self.latest,
            Mode::All if states().any(|state| state == Some(false)) => Some(false),
            Mode::All => states().all(|state| state == Some(true)).then_some(true),
            Mode::Any if states().any(|state| state == Some(true)) => Some(true),
            Mode::Any => states().all(|state| state == Some(false)).then_some(false),
        }
    }

    /// What it takes to keep it, in bytes, with some for each text.
    pub fn size(&self) -> usize {
        let availability = self.availability.iter().map(|one| {
            let path: usize = one.path.iter().map(|key| key.len() + PER_TEXT).sum();
            one.topic.len() + one.online.len() + one.offline.len() + path + 4 * PER_TEXT
        });
        let states = self.states.iter().map(|state| state.len() + PER_TEXT);
        PER_TEXT + availability.sum::<usize>() + states.sum::<usize>()
    }

    /// Leaves topics to the conventions that announce on them; false if it is one of their device's, or
    /// was made of such topics only.
    pub fn is_left_without(&mut self, is_foreign: impl Fn(&str) -> bool) -> bool {
        let mut availability = self.availability.iter();
        if availability.any(|one| is_foreign(&one.topic)) {
            return false;
        }
        let before = self.states.len();
        self.states.retain(|state| !is_foreign(state));
        let all_left = self.states.is_empty() && before > 0;
        !all_left || !self.availability.is_empty()
    }

    /// Knows what an earlier entity knew, if it asks the same; false if it does not.
    pub fn inherit(&mut self, earlier: &Self) -> bool {
        let same = |(a, b): (&Availability, &Availability)| a.asks_as(b);
        let pairs = || self.availability.iter().zip(&earlier.availability);
        let as_many = self.availability.len() == earlier.availability.len();
        if !as_many || self.mode != earlier.mode || !pairs().all(same) {
            return false;
        }
        self.latest = earlier.latest;
        for (own, earlier) in self.availability.iter_mut().zip(&earlier.availability) {
            own.state = earlier.state;
        }
        true
    }

    /// Takes to heart what was published on a topic; false if it says nothing.
    pub fn hear(&mut self, topic: &str, payload: &[u8]) -> bool {
        let mut understood = false;
        for one in self
            .availability
            .iter_mut()
            .filter(|one| one.topic == topic)
        {
            if let Some(state) = one.judge(payload) {
                one.state = Some(state);
                self.latest = Some(state);
                understood = true;
            }
        }
        understood
    }
}

impl Availability {
    fn asks_as(&self, other: &Self) -> bool {
        self.topic == other.topic
            && self.path == other.path
            && (&self.online, &self.offline) == (&other.online, &other.offline)
    }

    fn judge(&self, payload: &[u8]) -> Option<bool> {
        let said = |text: &str| {
            if text == self.online {
                Some(true)
            } else {
                (text == self.offline).then_some(false)
            }
        };
        if self.path.is_empty() {
            return said(std::str::from_utf8(payload).ok()?);
        }
        let json: Value = serde_json::from_slice(payload).ok()?;
        let mut value = &json;
        for key in &self.path {
            value = value.get(key)?;
        }
        said(&text(value)?)
    }
}

/// What entities take, in bytes.
pub(super) fn size(entities: &[(String, Entity)]) -> usize {
    entities.iter().map(|(_, entity)| entity.size()).sum()
}

/// The topics on which entities announce their availability, and their states.
pub(super) fn names(entities: &[(String, Entity)]) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let entities = || entities.iter().map(|(_, entity)| entity);
    let announcing = entities().flat_map(|entity| &entity.availability);
    let states = entities().flat_map(|entity| &entity.states);
    (
        announcing.map(|one| one.topic.as_str()).collect(),
        states.map(String::as_str).collect(),
    )
}

/// A value as Home Assistant compares it.
pub(super) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        // As templates write them, and as Home Assistant reads a word that is none.
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}
