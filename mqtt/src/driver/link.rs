//! One connection: a `select!` over socket, requests, commits and time. Decides nothing that the machine can.

use std::{io, time::Instant};

use bytes::BytesMut;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncReadExt, ReadHalf, WriteHalf};

use super::{
    PublishRequest, Session, Stop,
    wire::{LastWords, maybe, write_some},
};
use crate::{
    BoxFuture, ErrorKind, Event, Failover, ServerUrl, SessionError, StateError, Version,
    codec::{FrameReader, encode_disconnect},
    machine::Fatal,
    net::{ByteStream, Established, io_error, probe},
};

/// The socket is read in pieces of this size.
const READ_CHUNK: usize = 64 * 1024;
/// A new piece is allocated when less than this is free.
pub(super) const READ_MIN: usize = 8 * 1024;
/// Events handed over at once.
const BATCH: usize = 512;
/// Nothing is read and published while this many bytes wait to be written.
const WRITE_LIMIT: usize = 1024 * 1024;
/// Nothing is read while this many QoS 2 releases are being committed.
const RELEASES: usize = 1024;
/// Why a connection ended.
pub(super) enum End {
    /// The session is to end.
    Stop(Stop),
    /// It broke.
    Lost(SessionError),
    /// Credentials changed.
    Credentials,
    /// A preferred member is back and accepted us.
    Switch(Box<Established>),
}

pub(super) struct Link {
    pub(super) read: ReadHalf<Box<dyn ByteStream>>,
    pub(super) write: WriteHalf<Box<dyn ByteStream>>,
    pub(super) frames: FrameReader,
    pub(super) buffer: BytesMut,
    pub(super) url: ServerUrl,
    pub(super) version: Version,
    /// The buffer may hold further packets.
    pub(super) more: bool,
    pub(super) room: bool,
    pub(super) was_reading: bool,
    pub(super) pending_since: Option<Instant>,
    pub(super) unflushed: bool,
    pub(super) clearing: Option<BoxFuture<'static, Result<(), StateError>>>,
    pub(super) probing: Option<BoxFuture<'static, Option<Box<Established>>>>,
    pub(super) probe_at: Option<Instant>,
}

enum Wake {
    Read(io::Result<usize>),
    Wrote(io::Result<()>),
    Publish(Option<PublishRequest>),
    Released(u16, Result<(), StateError>),
    Cleared(Result<(), StateError>),
    Probed(Option<Box<Established>>),
    Credentials(bool),
    ConsumerLeft,
    /// Requests, room in the queue, time: looked at after every wake.
    Look,
}

impl Session {
    /// Runs a connection to its end.
    pub(super) async fn drive(&mut self, established: Established) -> End {
        let mut link = self.link(established);
        let end = self.turns(&mut link).await;
        let last_words = LastWords::of(&end, self.options.will.is_some());
        self.goodbye(link, last_words).await;
        end
    }

    fn link(&self, established: Established) -> Link {
        let Established {
            stream,
            url,
            version,
            frames,
            buffer,
            ..
        } = established;
        let (read, write) = tokio::io::split(stream);
        let preferred = self
            .options
            .server
            .urls
            .first()
            .is_some_and(|first| *first != url);
        let ordered = self.options.server.failover == Failover::Ordered;
        let probe_at = (preferred && ordered).then(|| Instant::now() + self.options.probe_interval);
        Link {
            read,
            write,
            frames,
            buffer,
            url,
            version,
            more: true,
            room: true,
            was_reading: true,
            pending_since: None,
            unflushed: false,
            clearing: None,
            probing: None,
            probe_at,
        }
    }

    async fn turns(&mut self, link: &mut Link) -> End {
        if !self.must_clear {
            self.machine.begin(Instant::now());
        }
        loop {
            if let Err(end) = self.look(link) {
                return end;
            }
            let wake = self.wait(link).await;
            if let Err(end) = self.handle(link, wake) {
                return end;
            }
        }
    }

    /// Does everything that can be done without waiting.
    fn look(&mut self, link: &mut Link) -> Result<(), End> {
        let asked = self.control.take();
        self.apply(asked.wanted, asked.acks);
        if asked.ping {
            self.machine.ping(Instant::now());
        }
        let now = Instant::now();
        link.room = self.producer.has_room();
        let reading = self.reading(link);
        if reading && !link.was_reading {
            self.machine.received_bytes(now);
        }
        link.was_reading = reading;
        let parsed = self.parse(link, now);
        self.hand_over(link);
        parsed.map_err(|fatal| self.fatal(link, fatal))?;
        self.start_releases();
        if self.must_clear && link.clearing.is_none() && self.machine.may_clear() {
            let state = std::sync::Arc::clone(&self.state);
            link.clearing = Some(async move { state.clear().await }.boxed());
        }
        let reading = self.reading(link);
        if now >= self.machine.poll_timeout(reading) {
            self.machine
                .handle_timeout(now, reading)
                .map_err(|fatal| self.fatal(link, fatal))?;
            self.hand_over(link);
        }
        self.check_write(link, now)?;
        if link.probe_at.is_some_and(|at| now >= at) {
            link.probe_at = None;
            link.probing = Some(self.probe(&link.url));
        }
        asked.stop.map_or(Ok(()), |how| Err(End::Stop(how)))
    }

    fn fatal(&mut self, link: &mut Link, fatal: Fatal) -> End {
        if fatal.code != 0 && link.version == Version::V5 {
            encode_disconnect(&mut self.machine.out, fatal.code, link.version);
        }
        End::Lost(fatal.error)
    }

    /// Whether packets are taken from the server.
    fn reading(&self, link: &Link) -> bool {
        let writable = self.machine.out.len() < WRITE_LIMIT;
        let window = self.machine.window_open();
        link.room && writable && window && !self.must_clear && self.machine.releasing() < RELEASES
    }

    fn parse(&mut self, link: &mut Link, now: Instant) -> Result<(), Fatal> {
        while link.more && self.machine.events.len() < BATCH && self.reading(link) {
            match link.frames.next(&mut link.buffer) {
                Ok(Some(frame)) => self.machine.handle_frame(frame, now)?,
                Ok(None) => link.more = false,
                Err(error) => {
                    let text = format!("the server broke the protocol: {error}");
                    return Err(Fatal {
                        error: SessionError::new(ErrorKind::Protocol, text),
                        code: 0x81,
                    });
                }
            }
        }
        Ok(())
    }

    fn hand_over(&mut self, link: &mut Link) {
        if self.machine.events.is_empty() {
            return;
        }
        for event in &self.machine.events {
            if let Event::Subscribed { refused, .. } = event {
                self.status.send_modify(|status| {
                    status.subscribed = true;
                    status.refused.clone_from(refused);
                });
            }
        }
        link.room = self.producer.push(&mut self.machine.events);
    }

    fn start_releases(&mut self) {
        for id in self.machine.releases.drain(..) {
            let state = std::sync::Arc::clone(&self.state);
            self.releases
                .push(async move { (id, state.release(id).await) }.boxed());
        }
    }

    fn check_write(&mut self, link: &mut Link, now: Instant) -> Result<(), End> {
        if self.machine.out.is_empty() && !link.unflushed {
            link.pending_since = None;
            return Ok(());
        }
        let since = *link.pending_since.get_or_insert(now);
        if now < since + self.options.write_timeout {
            return Ok(());
        }
        let text = format!(
            "{} took no bytes for {:?}",
            link.url, self.options.write_timeout
        );
        Err(End::Lost(SessionError::new(ErrorKind::WriteTimeout, text)))
    }

    async fn wait(&mut self, link: &mut Link) -> Wake {
        let reading = self.reading(link);
        let mut deadline = self.machine.poll_timeout(reading);
        if let Some(since) = link.pending_since {
            deadline = deadline.min(since + self.options.write_timeout);
        }
        if let Some(at) = link.probe_at {
            deadline = deadline.min(at);
        }
        if reading && link.buffer.capacity().saturating_sub(link.buffer.len()) < READ_MIN {
            link.buffer.reserve(READ_CHUNK);
        }
        let writing = !self.machine.out.is_empty() || link.unflushed;
        let publishing = self.publishes_open
            && self.machine.can_publish()
            && self.machine.out.len() < WRITE_LIMIT;
        tokio::select! {
            result = write_some(&mut link.write, &mut self.machine.out, &mut link.unflushed), if writing => Wake::Wrote(result),
            result = link.read.read_buf(&mut link.buffer), if reading && !link.more => Wake::Read(result),
            () = std::future::ready(()), if reading && link.more => Wake::Look,
            () = self.producer.ready(), if !link.room => Wake::Look,
            () = self.control.notified() => Wake::Look,
            () = tokio::time::sleep_until(deadline.into()) => Wake::Look,
            request = self.publishes.recv(), if publishing => Wake::Publish(request),
            Some((id, result)) = self.releases.next(), if !self.releases.is_empty() => Wake::Released(id, result),
            result = maybe(&mut link.clearing) => Wake::Cleared(result),
            found = maybe(&mut link.probing) => Wake::Probed(found),
            changed = self.credentials.changed(), if self.credentials_open => Wake::Credentials(changed.is_ok()),
            () = self.producer.consumer_left() => Wake::ConsumerLeft,
        }
    }

    fn handle(&mut self, link: &mut Link, wake: Wake) -> Result<(), End> {
        let now = Instant::now();
        match wake {
            Wake::Look => {}
            Wake::Read(Ok(0)) => {
                let text = format!("{} closed the connection", link.url);
                return Err(End::Lost(SessionError::new(ErrorKind::Closed, text)));
            }
            Wake::Read(Ok(count)) => {
                link.more = true;
                self.machine.received_bytes(now);
                let bytes = u64::try_from(count).unwrap_or(u64::MAX);
                crate::Counters::add(&self.counters.received_bytes, bytes);
            }
            Wake::Read(Err(error)) | Wake::Wrote(Err(error)) => {
                return Err(End::Lost(io_error(&link.url, &error)));
            }
            Wake::Wrote(Ok(())) => {
                link.pending_since = None;
                self.machine.sent(now);
            }
            // A caller that has gone away was told that nothing was sent.
            Wake::Publish(Some((_, reply))) if reply.is_closed() => {}
            Wake::Publish(Some((publish, reply))) => self.machine.publish(&publish, reply),
            Wake::Publish(None) => self.publishes_open = false,
            Wake::Released(id, result) => self.released(id, result).map_err(End::Lost)?,
            Wake::Cleared(result) => {
                link.clearing = None;
                result.map_err(|error| End::Lost(state_error(&error)))?;
                self.must_clear = false;
                self.machine.received_bytes(now);
                self.machine.begin(now);
            }
            Wake::Probed(found) => {
                link.probing = None;
                if let Some(established) = found {
                    return Err(End::Switch(established));
                }
                link.probe_at = Some(now + self.options.probe_interval);
            }
            Wake::Credentials(true) => return Err(End::Credentials),
            Wake::Credentials(false) => self.credentials_open = false,
            Wake::ConsumerLeft => return Err(End::Stop(Stop::Quietly)),
        }
        Ok(())
    }

    /// A commit of a release came to its end.
    pub(super) fn released(
        &mut self,
        id: u16,
        result: Result<(), StateError>,
    ) -> Result<(), SessionError> {
        self.machine.released(id, result.is_ok());
        result.map_err(|error| state_error(&error))
    }

    /// Looks for a member before `current`; a member counts as back when it accepts us.
    fn probe(&mut self, current: &ServerUrl) -> BoxFuture<'static, Option<Box<Established>>> {
        let urls = self.options.server.urls.iter();
        let preferred: Vec<_> = urls
            .take_while(|url| *url != current)
            .map(|url| self.reach(url))
            .collect();
        let limit = self.options.connect_timeout;
        async move {
            for reach in preferred {
                if probe(&reach.url, limit).await
                    && let (_, _, Ok(established)) = reach.run().await
                {
                    return Some(Box::new(established));
                }
            }
            None
        }
        .boxed()
    }
}

fn state_error(error: &StateError) -> SessionError {
    SessionError::new(ErrorKind::State, error.to_string())
}
