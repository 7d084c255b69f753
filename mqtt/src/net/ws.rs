//! MQTT over WebSocket (MQTT 5.0, 6): binary frames as a byte stream.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message, client::IntoClientRequest, http::HeaderValue, protocol::WebSocketConfig,
    },
};

use super::Attempt;
use crate::{ErrorKind, Scheme, ServerUrl, SessionError};

/// A WebSocket message is read as a whole, so it is bounded; servers put one packet or less into it.
const MESSAGE_LIMIT: usize = 64 * 1024 * 1024;
/// Bytes that may wait in the WebSocket before writing pauses.
const WRITE_BUFFER: usize = 512 * 1024;

pub(super) async fn wrap<S>(stream: S, attempt: &Attempt<'_>) -> Result<WsBytes<S>, SessionError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let url = attempt.url;
    let failed = |error: Error| {
        SessionError::new(
            ErrorKind::WebSocket,
            format!("WebSocket with {url} failed: {error}"),
        )
    };
    let mut request = address(url).into_client_request().map_err(failed)?;
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", HeaderValue::from_static("mqtt"));
    let limit = usize::try_from(attempt.options.max_packet_size)
        .unwrap_or(MESSAGE_LIMIT)
        .saturating_mul(2);
    let config = WebSocketConfig::default()
        .max_message_size(Some(limit.max(MESSAGE_LIMIT)))
        .max_frame_size(Some(limit.max(MESSAGE_LIMIT)))
        .max_write_buffer_size(WRITE_BUFFER * 2)
        .write_buffer_size(WRITE_BUFFER);
    let (inner, _response) = client_async_with_config(request, stream, Some(config))
        .await
        .map_err(failed)?;
    Ok(WsBytes {
        inner,
        rest: Bytes::new(),
    })
}

fn address(url: &ServerUrl) -> String {
    let scheme = if url.scheme == Scheme::Wss {
        "wss"
    } else {
        "ws"
    };
    let host = if url.host.contains(':') {
        format!("[{}]", url.host)
    } else {
        url.host.clone()
    };
    let path = if url.path.is_empty() { "/" } else { &url.path };
    format!("{scheme}://{host}:{}{path}", url.port)
}

/// A WebSocket as a byte stream.
pub(super) struct WsBytes<S> {
    inner: WebSocketStream<S>,
    rest: Bytes,
}

fn io_of(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        Error::ConnectionClosed | Error::AlreadyClosed => io::ErrorKind::ConnectionReset.into(),
        other => io::Error::other(format!("WebSocket: {other}")),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsBytes<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => self.rest = bytes,
                Some(Ok(Message::Text(_))) => {
                    return Poll::Ready(Err(io::Error::other("WebSocket: a text message")));
                }
                Some(Ok(Message::Close(_))) | None => return Poll::Ready(Ok(())),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(io_of(error))),
            }
        }
        let len = self.rest.len().min(out.remaining());
        out.put_slice(&self.rest.split_to(len));
        if !self.rest.has_remaining() {
            self.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsBytes<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(Pin::new(&mut self.inner).poll_ready(cx)).map_err(io_of)?;
        let len = bytes.len().min(WRITE_BUFFER);
        let chunk = bytes.get(..len).unwrap_or_default();
        let message = Message::Binary(Bytes::copy_from_slice(chunk));
        Pin::new(&mut self.inner)
            .start_send(message)
            .map_err(io_of)?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx).map_err(io_of)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.inner).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(io_of(error))),
        }
    }
}
