//! Writing to the socket of a connection, up to the last words.

use std::{io, time::Duration};

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    Session, Stop,
    link::{End, Link, READ_MIN},
};
use crate::{BoxFuture, ErrorKind, Version, codec::encode_disconnect};

/// Time for the last bytes and the server's answer to DISCONNECT.
const GOODBYE: Duration = Duration::from_millis(1500);

/// The reason "disconnect with Will Message".
const WITH_WILL: u8 = 0x04;

/// What the server hears at the end of a connection.
#[derive(Clone, Copy)]
pub(super) enum LastWords {
    /// DISCONNECT, which keeps the session; nobody hears our Last Will.
    Disconnect,
    /// Whoever listens to this server is to hear our Last Will, because we go to another one, or could not say
    /// good-bye ourselves (MQTT 5.0, 3.14.2.1).
    /// MQTT 3.1.1 knows no such DISCONNECT, only a connection that breaks.
    Will,
    /// What the machine wrote already: which rule the server broke.
    Written,
    None,
}

impl LastWords {
    pub(super) fn of(end: &End, has_will: bool) -> Self {
        match end {
            End::Switch(_) | End::Stop(Stop::WithWill) if has_will => Self::Will,
            End::Stop(_) | End::Credentials | End::Switch(_) => Self::Disconnect,
            End::Lost(error) if error.kind == ErrorKind::Protocol => Self::Written,
            End::Lost(_) => Self::None,
        }
    }
}

impl Session {
    /// Sends what waits and DISCONNECT, where the connection is still good for it.
    pub(super) async fn goodbye(&mut self, mut link: Link, last_words: LastWords) {
        match last_words {
            LastWords::Disconnect => encode_disconnect(&mut self.machine.out, 0, link.version),
            LastWords::Will if link.version == Version::V5 => {
                encode_disconnect(&mut self.machine.out, WITH_WILL, link.version);
            }
            LastWords::Written => {}
            LastWords::Will | LastWords::None => return,
        }
        let out = &mut self.machine.out;
        let last = async {
            link.write.write_all_buf(out).await?;
            link.write.flush().await?;
            link.write.shutdown().await?;
            // Closing with unread bytes would reset the connection and could outrun the DISCONNECT.
            loop {
                link.buffer.clear();
                link.buffer.reserve(READ_MIN);
                if link.read.read_buf(&mut link.buffer).await? == 0 {
                    return io::Result::Ok(());
                }
            }
        };
        // Whatever goes wrong here, the connection is over.
        let _ = tokio::time::timeout(GOODBYE, last).await;
    }
}

/// Writes some bytes and flushes when there are no more. Cancel safe.
pub(super) async fn write_some<W>(
    write: &mut W,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> io::Result<()>
where
    W: tokio::io::AsyncWrite + Unpin,
{
    if !out.is_empty() {
        *unflushed = true;
        if write.write_buf(out).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if !out.is_empty() {
            return Ok(());
        }
    }
    write.flush().await?;
    *unflushed = false;
    Ok(())
}

/// Waits for a future that may not be there.
pub(super) async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
