//! Says in one sentence why a device is in its state. In: its record. Out: the view of
//! `GET /v1/presence`. Times are shown by the wall clock as it runs now, so a clock that was set
//! right meanwhile does no harm.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::devices::{Device, Place, Slot};
use super::machine::Presence;
use super::tick::Tick;
use super::{Explanation, Reason, State};
use crate::clock::Now;
use crate::identity::DeviceId;

impl Device {
    /// Whether its `offlineDelay` is stretched.
    pub(super) fn is_flapping(&self) -> bool {
        self.flaps.as_ref().is_some_and(|flaps| flaps.is_flapping())
    }
}

impl Presence {
    /// Why a device is in its state; `None` for one that is not known.
    #[must_use]
    pub fn explain(&self, id: &DeviceId, now: Now) -> Option<Explanation> {
        let server = self.server_index(id.server())?;
        let slot = self.devices.find(server, id.name())?;
        self.explain_slot(slot, now)
    }

    /// All that is known, sorted by id, as `GET /v1/presence` shows it.
    #[must_use]
    pub fn explain_all(&self, now: Now) -> Vec<Explanation> {
        let mut slots: Vec<(&DeviceId, Slot)> = self
            .devices
            .slots()
            .map(|(slot, device)| (&device.id, slot))
            .collect();
        slots.sort_unstable();
        slots
            .into_iter()
            .filter_map(|(_, slot)| self.explain_slot(slot, now))
            .collect()
    }

    /// Up to `count` of the devices that are known, in no order, and where to go on; `None` at the end.
    #[must_use]
    pub fn ids(&self, from: usize, count: usize) -> (Vec<DeviceId>, Option<usize>) {
        let to = from.saturating_add(count).min(self.devices.room());
        let slots = (from..to).filter_map(|slot| self.devices.get(Slot::try_from(slot).ok()?));
        let ids = slots.map(|device| device.id.clone()).collect();
        (ids, (to < self.devices.room()).then_some(to))
    }

    pub(super) fn explain_slot(&self, slot: Slot, now: Now) -> Option<Explanation> {
        let device = self.devices.get(slot)?;
        let clock = Clock {
            now,
            tick: self.base.tick(now.mono),
        };
        Some(Explanation {
            device: device.id.to_string(),
            state: device.state,
            published: device.place == Place::In,
            since: clock.wall(device.since),
            reason: device.reason,
            explanation: self.sentence(device, clock),
            last_data_at: device.last_data.map(|at| clock.wall(at)),
            flapping: device.is_flapping(),
        })
    }

    fn sentence(&self, device: &Device, clock: Clock) -> String {
        let mut parts = vec![format!(
            "{} since {}: {}",
            device.state.as_str(),
            clock.show(device.since),
            self.cause(device)
        )];
        if !device.state.is_present()
            && device.since.since(device.struck) >= Duration::from_secs(1)
            && device.struck > Tick::START
        {
            parts.push(format!("it struck at {}", clock.show(device.struck)));
        }
        if let Some(data) = device.last_data
            && device.state != State::Online
        {
            let before = device.since.since(data).as_secs_f64();
            parts.push(format!("last data {before:.1} s before"));
        }
        match device.place {
            Place::Refused => parts.push(format!(
                "not published: there are {} devices already (limits.maxDevices)",
                self.max_devices
            )),
            Place::Invited => parts.push(
                "not published yet: there is a place for it as soon as it shows itself".to_owned(),
            ),
            Place::In | Place::Out => {}
        }
        let away = self.servers.get(usize::from(device.server));
        if let Some(server) = away.filter(|server| server.in_outage()) {
            let what = if self.is_connected(device.server) {
                "came back lately; nobody is believed to be gone before the grace is over"
            } else {
                "cannot be heard"
            };
            parts.push(format!("the MQTT server {} {what}", server.name));
        }
        if device.is_flapping() {
            parts.push("it comes and goes, so offlineDelay is stretched".to_owned());
        }
        parts.join("; ")
    }

    fn cause(&self, device: &Device) -> String {
        let on = |what: &str| match self.rules.describe(device.source, device.id.plain_name()) {
            Some(place) => format!("{what}{place}"),
            None => what.to_owned(),
        };
        match device.reason {
            Reason::Data => on("data"),
            Reason::Announced => on("announcement"),
            Reason::AnnouncedRetained => on("retained announcement"),
            Reason::RetainedData => on("retained data"),
            Reason::Listed => on("listed"),
            Reason::Restored => "it was there before the restart".to_owned(),
            Reason::Doubted => on("it has to be announced again"),
            Reason::Will => on("Last Will"),
            Reason::WillRetained => on("retained Last Will"),
            Reason::Emptied => on("announcement deleted"),
            Reason::Vanished => on("announcement no longer retained"),
            Reason::Silence => match self.settings.offline_after {
                Some(after) => format!("silent for {}", show(after)),
                None => "silent".to_owned(),
            },
            Reason::Unproven => "nothing confirmed that it is there".to_owned(),
            Reason::ServerLost => "its MQTT server stayed away".to_owned(),
        }
    }
}

/// A reading of both clocks.
#[derive(Clone, Copy)]
struct Clock {
    now: Now,
    tick: Tick,
}

impl Clock {
    fn wall(self, at: Tick) -> Timestamp {
        let ago = SignedDuration::try_from(self.tick.since(at)).unwrap_or(SignedDuration::ZERO);
        self.now.wall.checked_sub(ago).unwrap_or(self.now.wall)
    }

    /// In UTC, with the date only where it is another day.
    fn show(self, at: Tick) -> String {
        let wall = self.wall(at);
        let day = |time: Timestamp| time.strftime("%Y-%m-%d").to_string();
        if day(wall) == day(self.now.wall) {
            wall.strftime("%H:%M:%S").to_string()
        } else {
            wall.strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
    }
}

fn show(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    match (seconds, millis) {
        (0, millis) => format!("{millis} ms"),
        (seconds, 0) if seconds % 60 == 0 => format!("{} min", seconds / 60),
        (seconds, 0) => format!("{seconds} s"),
        (seconds, millis) => format!("{seconds}.{millis:03} s"),
    }
}
