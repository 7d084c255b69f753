//! Notices connections that never say which protocol they speak. In: a connection. Out: the same
//! connection, and a future that ends if it stays silent. hyper's own limit begins only after it
//! has told HTTP/1 from HTTP/2, for which it waits without end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// After as many bytes as the preface of HTTP/2 has (RFC 9113, 3.4), the protocol is known.
const PREFACE: usize = 24;

/// A connection whose first bytes are counted.
pub(crate) struct Observed<I> {
    io: I,
    seen: Arc<Seen>,
}

/// Tells whether an [`Observed`] connection was silent.
pub(crate) struct Silence {
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    read: AtomicUsize,
    answered: AtomicBool,
}

impl<I> Observed<I> {
    pub(crate) fn new(io: I) -> (Self, Silence) {
        let seen = Arc::<Seen>::default();
        let silence = Silence {
            seen: Arc::clone(&seen),
        };
        (Self { io, seen }, silence)
    }
}

impl Silence {
    /// Ends after `limit` if the protocol is not known by then; else never.
    pub(crate) async fn lasted(self, limit: Duration) {
        tokio::time::sleep(limit).await;
        let known = self.seen.read.load(Ordering::Relaxed) >= PREFACE
            || self.seen.answered.load(Ordering::Relaxed);
        if known {
            std::future::pending::<()>().await;
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Observed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(context, buffer);
        let more = buffer.filled().len().saturating_sub(before);
        let read = self.seen.read.load(Ordering::Relaxed).saturating_add(more);
        self.seen.read.store(read, Ordering::Relaxed);
        polled
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Observed<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.seen.answered.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.seen.answered.store(true, Ordering::Relaxed);
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const LIMIT: Duration = Duration::from_secs(10);

    async fn is_silent(silence: Silence) -> bool {
        tokio::time::timeout(LIMIT * 10, silence.lasted(LIMIT))
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn part_of_a_preface_is_silence() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut server, silence) = Observed::new(server);
        client.write_all(b"PRI").await.unwrap();
        server.read_exact(&mut [0; 3]).await.unwrap();
        assert!(is_silent(silence).await);
    }

    #[tokio::test(start_paused = true)]
    async fn whole_preface_is_not_silence() {
        let (mut client, server) = tokio::io::duplex(64);
        let (mut server, silence) = Observed::new(server);
        client.write_all(&[b'x'; PREFACE]).await.unwrap();
        server.read_exact(&mut [0; PREFACE]).await.unwrap();
        assert!(!is_silent(silence).await);
    }

    #[tokio::test(start_paused = true)]
    async fn answered_request_is_not_silence_however_short() {
        let (_client, server) = tokio::io::duplex(64);
        let (mut server, silence) = Observed::new(server);
        server.write_all(b"x").await.unwrap();
        assert!(!is_silent(silence).await);
    }
}
