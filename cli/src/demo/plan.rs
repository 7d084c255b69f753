//! Decides what the demo's devices are and when which of them crashes.
//! In: the number of devices and the demo's duration. Out: a plan and the Configuration that finds these devices.
//! Connects to nothing; `devices` carries the plan out.

use std::net::SocketAddr;
use std::time::Duration;

/// How long the devices take to appear, one after the other, at most.
const STAGGER: Duration = Duration::from_millis(1500);
/// When the crash comes at the latest, so that nobody has to wait for it.
const CRASH_AT_MOST: Duration = Duration::from_secs(10);
/// For how long the crashed device stays away at the most, and at the least if the duration leaves room.
const AWAY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(8));
/// A demo that goes on repeats the crash after this time.
const AGAIN: Duration = Duration::from_secs(60);

/// What a device measures, and in which form it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// JSON objects with numbers, a boolean and a text; announces itself and has a Last Will.
    Robot,
    /// Plain numbers; no announcement, so silence is the only sign that it has gone.
    Thermometer,
    /// Text; announces itself and has a Last Will.
    Door,
}

impl Kind {
    /// The kinds take turns.
    const ALL: [Self; 3] = [Self::Robot, Self::Thermometer, Self::Door];

    fn name(self) -> &'static str {
        match self {
            Self::Robot => "robot",
            Self::Thermometer => "thermometer",
            Self::Door => "door",
        }
    }

    /// The last level of the topic on which it publishes.
    pub fn channel(self) -> &'static str {
        match self {
            Self::Robot => "joints",
            Self::Thermometer => "temperature",
            Self::Door => "state",
        }
    }

    /// Whether it announces itself on a retained status topic, which its Last Will takes back.
    pub fn has_last_will(self) -> bool {
        self != Self::Thermometer
    }

    /// The time between two messages.
    pub fn period(self) -> Duration {
        match self {
            Self::Robot => Duration::from_millis(500),
            Self::Thermometer => Duration::from_secs(1),
            Self::Door => Duration::from_millis(1500),
        }
    }

    /// The payload of its message number `tick`.
    pub fn payload(self, tick: u32) -> String {
        let turn = f64::from(tick % 360).to_radians();
        match self {
            Self::Robot => format!(
                r#"{{"axis1":{:.1},"axis2":{:.1},"gripper":"{}","moving":{},"cycle":{tick}}}"#,
                90.0 * (turn * 7.0).sin(),
                45.0 * (turn * 11.0).cos(),
                if tick % 8 < 4 { "open" } else { "closed" },
                !tick.is_multiple_of(8),
            ),
            Self::Thermometer => format!("{:.2}", 21.0 + 2.5 * (turn * 5.0).sin()),
            Self::Door => if tick % 4 < 3 { "closed" } else { "open" }.to_owned(),
        }
    }
}

/// When a device's connection breaks without a good-bye, and when the device is back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// After this time on line.
    pub after: Duration,
    /// For how long it is away.
    pub away: Duration,
    /// After how much time on line it crashes again.
    pub again: Duration,
}

/// One simulated device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name, one topic level.
    pub name: String,
    /// What it does.
    pub kind: Kind,
    /// How long after the start of the demo it connects.
    pub delay: Duration,
    /// Set for the one that crashes.
    pub crash: Option<Crash>,
}

impl Device {
    /// The topic of its data.
    pub fn data_topic(&self) -> String {
        format!("demo/{}/{}", self.name, self.kind.channel())
    }

    /// The topic of its announcements and of its Last Will.
    pub fn status_topic(&self) -> String {
        format!("demo/{}/status", self.name)
    }
}

/// The devices of a demo that takes `duration` (`None`: until it is stopped). The first one is a robot and crashes.
pub fn devices(count: u16, duration: Option<Duration>) -> Vec<Device> {
    let width = count.to_string().len();
    (1..=count)
        .zip(Kind::ALL.into_iter().cycle())
        .map(|(number, kind)| Device {
            name: format!("{}-{number:0width$}", kind.name()),
            kind,
            delay: STAGGER.mul_f64(f64::from(number - 1) / f64::from(count)),
            crash: (number == 1).then(|| crash(duration)),
        })
        .collect()
}

fn crash(duration: Option<Duration>) -> Crash {
    let (least, most) = AWAY;
    let Some(duration) = duration else {
        return Crash {
            after: CRASH_AT_MOST,
            away: most,
            again: AGAIN,
        };
    };
    let after = duration.mul_f64(0.35).min(CRASH_AT_MOST);
    let away = duration
        .mul_f64(0.3)
        .clamp(least, most)
        .min(duration.mul_f64(0.5));
    Crash {
        after,
        away,
        again: AGAIN,
    }
}

/// The Configuration that finds the demo's devices on the embedded MQTT server. Short delays, so that a demo of ten seconds
/// shows a device that goes and comes back.
pub fn configuration(server: SocketAddr) -> String {
    format!(
        "\
apiVersion: akri.sh/v0
kind: Configuration
metadata:
  name: demo
spec:
  discoveryHandler:
    name: mqtt
    discoveryDetails: |
      servers:
        - name: demo
          urls: [tcp://{server}]
      topics:
        - demo/{{device}}/joints
        - demo/{{device}}/temperature
        - demo/{{device}}/state
      presence:
        availability:
          - topic: demo/{{device}}/status
        offlineAfter: 5s
        offlineDelay: 500ms
        reconnectGrace: 2s
  capacity: 1
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_the_number_of_devices_asked_for_and_one_of_them_crashes() {
        for count in [1, 2, 5, 200] {
            let devices = devices(count, Some(Duration::from_secs(30)));
            assert_eq!(devices.len(), usize::from(count));
            let crashing: Vec<_> = devices.iter().filter(|d| d.crash.is_some()).collect();
            assert_eq!(crashing.len(), 1);
            assert!(crashing[0].kind.has_last_will());
        }
    }

    #[test]
    fn names_are_unique_and_sort_like_the_devices_of_a_kind() {
        let mut names: Vec<_> = devices(120, None).into_iter().map(|d| d.name).collect();
        assert_eq!(names[0], "robot-001");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 120);
    }

    #[test]
    fn ten_seconds_have_room_for_the_crash_and_the_return() {
        for seconds in [10, 15, 30, 600] {
            let duration = Duration::from_secs(seconds);
            let crash = crash(Some(duration));
            assert!(
                crash.after + crash.away + Duration::from_secs(3) <= duration,
                "{crash:?}"
            );
            assert!(crash.away >= Duration::from_secs(3), "{crash:?}");
        }
    }

    #[test]
    fn robots_publish_json() {
        for tick in 0..400 {
            let payload = Kind::Robot.payload(tick);
            serde_json::from_str::<serde_json::Value>(&payload).unwrap();
        }
    }
}
