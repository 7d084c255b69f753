//! The few packets of MQTT 3.1.1 that a simple device sends, written for the tests so that devices
//! share no code with the product. In: an address, a client id, messages. Out: a blocking connection.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, ensure};

const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const QOS_1: u8 = 0x02;
const PINGREQ: u8 = 0xc0;
const RETAIN: u8 = 0x01;
const CLEAN_SESSION: u8 = 0x02;
/// A Last Will of QoS 1 that is retained (MQTT 3.1.1, 3.1.2.3).
const WILL: u8 = 0x04 | 0x08 | 0x20;
const KEEP_ALIVE_S: u16 = 20;
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer, since what is sent a second time counts twice.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(60);

/// A connection to an MQTT server.
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Connects with a clean session; `will` is the topic and the payload of a retained Last Will.
    ///
    /// # Errors
    /// When nobody listens, or the server refuses.
    pub fn open(server: &str, client_id: &str, will: Option<(&str, &str)>) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(server).with_context(|| server.to_owned())?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut body = Vec::new();
        text(&mut body, "MQTT")?;
        let flags = if will.is_some() { WILL } else { 0 } | CLEAN_SESSION;
        body.extend([4, flags]);
        body.extend(KEEP_ALIVE_S.to_be_bytes());
        text(&mut body, client_id)?;
        if let Some((topic, payload)) = will {
            text(&mut body, topic)?;
            text(&mut body, payload)?;
        }
        stream.write_all(&packet(CONNECT, &body)?)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).context("no CONNACK")?;
        let [kind, _, _, code] = answer;
        ensure!(kind == CONNACK && code == 0, "refused: {answer:?}");
        Ok(Self { stream })
    }

    /// Publishes with QoS 0.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn publish(&mut self, topic: &str, payload: &str, retain: bool) -> anyhow::Result<()> {
        let mut body = Vec::new();
        text(&mut body, topic)?;
        body.extend(payload.as_bytes());
        let kind = PUBLISH | if retain { RETAIN } else { 0 };
        self.stream.write_all(&packet(kind, &body)?)?;
        Ok(())
    }

    /// Publishes with QoS 1 and waits until the server has taken it.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn publish_acknowledged(&mut self, topic: &str, payload: &str) -> anyhow::Result<()> {
        // One at a time, so one packet identifier is enough (MQTT 3.1.1, 2.3.1).
        const ID: [u8; 2] = [0, 1];
        let mut body = Vec::new();
        text(&mut body, topic)?;
        body.extend(ID);
        body.extend(payload.as_bytes());
        self.stream.write_all(&packet(PUBLISH | QOS_1, &body)?)?;
        self.stream.set_read_timeout(Some(ACKNOWLEDGED_WITHIN))?;
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer).context("no PUBACK")?;
        ensure!(answer == [PUBACK, 2, ID[0], ID[1]], "{answer:?}");
        Ok(())
    }

    /// Keeps the connection alive.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn ping(&mut self) -> anyhow::Result<()> {
        self.stream.write_all(&packet(PINGREQ, &[])?)?;
        Ok(())
    }

    /// Reads and drops what the server sent, for at most `time`.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub fn drain(&mut self, time: Duration) -> anyhow::Result<()> {
        self.stream.set_read_timeout(Some(time))?;
        let mut bytes = [0; 256];
        match self.stream.read(&mut bytes) {
            Ok(0) => anyhow::bail!("closed by the server"),
            Ok(_) => Ok(()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Disconnects, so that no Last Will is published, once all that was sent has been taken.
    ///
    /// # Errors
    /// When the connection is broken.
    pub fn close(mut self) -> anyhow::Result<()> {
        self.ping()?;
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.read_exact(&mut [0; 2]).context("no PINGRESP")?;
        self.stream.write_all(&[0xe0, 0])?;
        Ok(())
    }
}

fn packet(kind: u8, body: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = vec![kind];
    let mut rest = body.len();
    loop {
        let digit = u8::try_from(rest % 128)?;
        rest /= 128;
        bytes.push(digit | if rest > 0 { 0x80 } else { 0 });
        if rest == 0 {
            break;
        }
    }
    bytes.extend(body);
    Ok(bytes)
}

fn text(body: &mut Vec<u8>, text: &str) -> anyhow::Result<()> {
    body.extend(u16::try_from(text.len())?.to_be_bytes());
    body.extend(text.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remaining_length_takes_as_many_bytes_as_it_needs() {
        assert_eq!(packet(PINGREQ, &[]).unwrap(), [0xc0, 0]);
        assert_eq!(
            packet(PUBLISH, &[7; 321]).unwrap().get(..3).unwrap(),
            [0x30, 0xc1, 2]
        );
    }

    #[test]
    fn server_takes_what_a_device_sends() {
        let server = crate::mosquitto::Mosquitto::start(crate::mosquitto::Config::new());
        let address = server.address().to_string();
        let mut device = Connection::open(&address, "d", Some(("d/status", "offline"))).unwrap();
        device.publish("d/status", "online", true).unwrap();
        device.publish_acknowledged("d/joints", "1").unwrap();
        device.publish_acknowledged("d/joints", "2").unwrap();
        device.ping().unwrap();
        device.drain(Duration::from_secs(1)).unwrap();
        device.close().unwrap();
    }
}
