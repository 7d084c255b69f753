//! Which bytes of a caller are changed, and that the HTTP library then takes the call.

use std::time::Duration;

use akri_mqtt_proto::akri::discovery_handler_server::{DiscoveryHandler, DiscoveryHandlerServer};
use akri_mqtt_proto::akri::{DiscoverRequest, DiscoverResponse};
use futures_util::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use super::*;

const PATH: &str = "%2Fvar%2Flib%2Fakri%2Fmqtt.sock";
const RST_STREAM: u8 = 3;

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags, 0, 0, 0, stream]);
    bytes.extend(payload);
    bytes
}

/// A literal field as gRPC's C core writes it.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0x40, u8::try_from(name.len()).unwrap()];
    bytes.extend(name.bytes());
    bytes.push(u8::try_from(value.len()).unwrap());
    bytes.extend(value.bytes());
    bytes
}

fn start() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

fn pass(bytes: &[u8]) -> Vec<u8> {
    let mut frames = Frames::default();
    bytes.iter().map(|byte| frames.pass(*byte)).collect()
}

fn replaced(text: &[u8]) -> Vec<u8> {
    text.iter()
        .map(|byte| if *byte == b'%' { b'-' } else { *byte })
        .collect()
}

#[test]
fn only_the_authority_is_changed_however_its_name_is_written() {
    let other = literal("x-note", "100%");
    let mut by_index = vec![0x01, u8::try_from(PATH.len()).unwrap()];
    by_index.extend(PATH.bytes());
    for authority in [literal(":authority", PATH), by_index] {
        let fields =
            |authority: &[u8]| [&other, authority, &other, &[0x82, 0x3f, 0xe1, 0x1f]].concat();
        let (given, wanted) = (fields(&authority), fields(&replaced(&authority)));
        let data = frame(0, 0, 1, b"%:authority%");
        let whole = |fields: &[u8]| [start(), frame(1, 4, 1, fields), data.clone()].concat();
        assert_eq!(pass(&whole(&given)), whole(&wanted));
        let padded = |fields: &[u8]| {
            let payload = [&[2, 0, 0, 0, 0, 0], fields, b"%%"].concat();
            [
                start(),
                frame(1, 4 | PADDED | PRIORITY, 1, &payload),
                data.clone(),
            ]
            .concat()
        };
        assert_eq!(pass(&padded(&given)), padded(&wanted));
        let split = |fields: &[u8]| {
            let (first, second) = fields.split_at(30);
            let (first, second) = (frame(1, 0, 1, first), frame(9, 4, 1, second));
            [start(), first, second, data.clone()].concat()
        };
        assert_eq!(pass(&split(&given)), split(&wanted));
    }
}

#[test]
fn a_path_of_more_than_126_bytes_is_changed_to_its_end() {
    let path = "%2F".repeat(100);
    let fields = |path: &str| {
        // 300 is 127 + 173: a full prefix, then 0x2d with more to follow, then 1.
        let length: &[u8] = &[0x41, 0x7f, 0xad, 0x01];
        [length, path.as_bytes(), &literal("a", "%")].concat()
    };
    let whole = |path: &str| [start(), frame(1, 4, 1, &fields(path))].concat();
    assert_eq!(pass(&whole(&path)), whole(&path.replace('%', "-")));
}

#[test]
fn no_bytes_make_it_panic() {
    for seed in 0..200_u32 {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
        let noise = (0..2_000).map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        });
        let noise: Vec<u8> = noise.collect();
        assert_eq!(pass(&noise).len(), noise.len());
        let framed = [start(), frame(1, 0, 1, &noise)].concat();
        assert_eq!(pass(&framed).len(), framed.len());
    }
}

struct Refuses;

#[tonic::async_trait]
impl DiscoveryHandler for Refuses {
    type DiscoverStream = tokio_stream::Empty<Result<DiscoverResponse, Status>>;

    async fn discover(
        &self,
        _: Request<DiscoverRequest>,
    ) -> Result<Response<Self::DiscoverStream>, Status> {
        Err(Status::unavailable("reached"))
    }
}

#[tokio::test]
async fn a_call_with_a_percent_encoded_path_as_authority_reaches_the_service() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
    let incoming = incoming.map(|stream| stream.map(Caller::new));
    let service = DiscoveryHandlerServer::new(Refuses);
    let router = tonic::transport::Server::builder().add_service(service);
    let server = tokio::spawn(router.serve_with_incoming(incoming));
    let fields = [
        literal(":path", "/v0.DiscoveryHandler/Discover"),
        literal(":authority", PATH),
        literal(":method", "POST"),
        literal(":scheme", "http"),
        literal("content-type", "application/grpc"),
        literal("te", "trailers"),
    ];
    let mut caller = UnixStream::connect(&path).await.unwrap();
    let mut request = [start(), frame(1, 4, 1, &fields.concat())].concat();
    request.extend(frame(0, 1, 1, &[0, 0, 0, 0, 0]));
    caller.write_all(&request).await.unwrap();
    let answer = async {
        loop {
            let mut header = [0; 9];
            caller.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            caller.read_exact(&mut payload).await.unwrap();
            if matches!(header[3], HEADERS | RST_STREAM) {
                return header[3];
            }
        }
    };
    let kind = tokio::time::timeout(Duration::from_secs(10), answer).await;
    assert_eq!(kind.unwrap(), HEADERS);
    server.abort();
}
