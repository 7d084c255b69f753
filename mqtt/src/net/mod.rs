//! From a URL to an accepted MQTT connection: resolve, TCP, TLS, WebSocket, CONNECT, CONNACK, each failure
//! with its cause. What happens on the connection is left to the driver.

mod tcp;
mod tls;
mod ws;

pub use tls::check;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    Credentials, ErrorKind, Options, Scheme, ServerUrl, SessionError, Version, Will,
    codec::{
        ConnAck, Connect, Frame, FrameReader, Packet, decode, encode_connect, encode_disconnect,
    },
    machine::reason::connack_refusal,
};

/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;

/// A connected byte stream, whatever carries it.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An accepted connection.
pub(crate) struct Established {
    pub(crate) stream: Box<dyn ByteStream>,
    pub(crate) url: ServerUrl,
    pub(crate) version: Version,
    pub(crate) connack: ConnAck,
    pub(crate) frames: FrameReader,
    /// What came behind the CONNACK.
    pub(crate) buffer: BytesMut,
    /// The Last Will that the server has of us.
    pub(crate) will: Option<Will>,
    /// The server accepted us only without our Last Will.
    pub(crate) will_refused: bool,
}

/// What one attempt says to the server.
pub(crate) struct Attempt<'a> {
    pub(crate) options: &'a Options,
    pub(crate) url: &'a ServerUrl,
    pub(crate) credentials: &'a Credentials,
    pub(crate) version: Version,
    pub(crate) clean_start: bool,
    pub(crate) will: Option<Will>,
}

/// Connects within `options.connect_timeout`.
pub(crate) async fn establish(attempt: Attempt<'_>) -> Result<Established, SessionError> {
    let limit = attempt.options.connect_timeout;
    let url = attempt.url;
    match tokio::time::timeout(limit, connect(&attempt)).await {
        Ok(result) => result,
        Err(_) => {
            let text = format!("{url} did not answer within {limit:?}");
            Err(SessionError::new(ErrorKind::ConnectTimeout, text))
        }
    }
}

/// Whether something listens there.
pub(crate) async fn probe(url: &ServerUrl, limit: std::time::Duration) -> bool {
    matches!(
        tokio::time::timeout(limit, tcp::connect(url)).await,
        Ok(Ok(_))
    )
}

async fn connect(attempt: &Attempt<'_>) -> Result<Established, SessionError> {
    let clean_session_persists =
        attempt.version == Version::V5 || attempt.options.session_expiry.is_zero();
    if attempt.clean_start && !clean_session_persists {
        // MQTT 3.1.1 has no clean start with a session that stays: one connection to drop the old session,
        // one to begin a new one.
        let mut dropped = handshake(attempt, true).await?;
        let mut bytes = BytesMut::new();
        encode_disconnect(&mut bytes, 0, attempt.version);
        dropped
            .stream
            .write_all(&bytes)
            .await
            .map_err(|error| io_error(attempt.url, &error))?;
        let _ = dropped.stream.shutdown().await;
        return handshake(attempt, false).await;
    }
    handshake(
        attempt,
        attempt.clean_start || attempt.options.session_expiry.is_zero(),
    )
    .await
}

async fn handshake(attempt: &Attempt<'_>, clean: bool) -> Result<Established, SessionError> {
    let mut stream = open(attempt).await?;
    let mut buffer = BytesMut::new();
    let seconds = |duration: std::time::Duration| duration.as_secs();
    let credentials = attempt.credentials;
    let connect = Connect {
        version: attempt.version,
        client_id: &attempt.options.client_id,
        clean_start: clean,
        keep_alive: u16::try_from(seconds(attempt.options.keep_alive)).unwrap_or(u16::MAX),
        session_expiry: u32::try_from(seconds(attempt.options.session_expiry)).unwrap_or(u32::MAX),
        receive_maximum: attempt.options.receive_maximum,
        username: credentials.username.as_deref(),
        password: credentials.password.as_ref().map(|secret| secret.expose()),
        will: attempt.will.as_ref(),
    };
    encode_connect(&mut buffer, &connect);
    stream
        .write_all(&buffer)
        .await
        .map_err(|error| io_error(attempt.url, &error))?;
    stream
        .flush()
        .await
        .map_err(|error| io_error(attempt.url, &error))?;
    buffer.clear();

    let mut frames = FrameReader::new(attempt.options.max_packet_size);
    let connack = read_connack(&mut *stream, &mut frames, &mut buffer, attempt).await?;
    if connack.reason != 0 {
        return Err(refusal(attempt, &connack));
    }
    Ok(Established {
        stream,
        url: attempt.url.clone(),
        version: attempt.version,
        connack,
        frames,
        buffer,
        will: attempt.will.clone(),
        will_refused: attempt.options.will.is_some() && attempt.will.is_none(),
    })
}

async fn read_connack(
    stream: &mut dyn ByteStream,
    frames: &mut FrameReader,
    buffer: &mut BytesMut,
    attempt: &Attempt<'_>,
) -> Result<ConnAck, SessionError> {
    loop {
        // Something else than an MQTT server would otherwise be waited for until its answer fills a packet.
        if buffer.first().is_some_and(|first| *first != CONNACK) {
            return Err(not_mqtt(attempt.url, "its first packet is no CONNACK"));
        }
        match frames.next(buffer) {
            Ok(Some(Frame::Packet { first, body })) => match decode(first, body, attempt.version) {
                Ok(Packet::ConnAck(connack)) => return Ok(connack),
                Ok(_) => return Err(not_mqtt(attempt.url, "its first packet is no CONNACK")),
                Err(error) => return Err(not_mqtt(attempt.url, error.0)),
            },
            Ok(Some(Frame::Oversized(_))) => {
                return Err(not_mqtt(attempt.url, "its first packet is no CONNACK"));
            }
            Err(error) => return Err(not_mqtt(attempt.url, error.0)),
            Ok(None) => {}
        }
        match stream.read_buf(buffer).await {
            Ok(0) => {
                let text = format!(
                    "{} closed the connection instead of answering CONNECT",
                    attempt.url
                );
                return Err(SessionError::new(ErrorKind::Closed, text));
            }
            Ok(_) => {}
            Err(error) => return Err(io_error(attempt.url, &error)),
        }
    }
}

fn refusal(attempt: &Attempt<'_>, connack: &ConnAck) -> SessionError {
    let (kind, reason) = connack_refusal(connack.reason, attempt.version);
    let advice = match kind {
        ErrorKind::BadCredentials => "; check MQTT_USERNAME and MQTT_PASSWORD",
        ErrorKind::NotAuthorised => {
            "; check MQTT_USERNAME, MQTT_PASSWORD and the client certificate, and what the server allows this client"
        }
        ErrorKind::UnsupportedVersion => "; set mqtt.version to one that it speaks, or to auto",
        ErrorKind::ClientIdRefused => {
            "; a server that allows only 23 characters needs short client ids"
        }
        _ => "",
    };
    let detail = connack
        .props
        .reason
        .as_ref()
        .map(|text| format!(" ({text})"))
        .unwrap_or_default();
    let elsewhere = connack
        .props
        .server_reference
        .as_ref()
        .map(|text| format!("; it names {text}"))
        .unwrap_or_default();
    let (url, version) = (attempt.url, attempt.version);
    let text =
        format!("{url} refused the MQTT {version} connection: {reason}{detail}{elsewhere}{advice}");
    SessionError::new(kind, text)
}

fn not_mqtt(url: &ServerUrl, text: &str) -> SessionError {
    SessionError::new(
        ErrorKind::Protocol,
        format!("{url} does not speak MQTT: {text}"),
    )
}

async fn open(attempt: &Attempt<'_>) -> Result<Box<dyn ByteStream>, SessionError> {
    let url = attempt.url;
    let tcp = tcp::connect(url).await?;
    Ok(match url.scheme {
        Scheme::Tcp => Box::new(tcp),
        Scheme::Tls => Box::new(tls::wrap(tcp, attempt).await?),
        Scheme::Ws => Box::new(ws::wrap(tcp, attempt).await?),
        Scheme::Wss => Box::new(ws::wrap(tls::wrap(tcp, attempt).await?, attempt).await?),
    })
}

/// An error of reading or writing in words; a TLS alert shows up here.
pub(crate) fn io_error(url: &ServerUrl, error: &std::io::Error) -> SessionError {
    if let Some(error) = tls::cause(error) {
        return tls::error(url, error);
    }
    let kind = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => ErrorKind::ConnectionRefused,
        std::io::ErrorKind::ConnectionReset
        | std::io::ErrorKind::BrokenPipe
        | std::io::ErrorKind::ConnectionAborted
        | std::io::ErrorKind::UnexpectedEof => ErrorKind::Closed,
        _ => ErrorKind::Network,
    };
    SessionError::new(kind, format!("the connection to {url} failed: {error}"))
}
