use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::{Publish, QoS, Version};

fn frames(reader: &mut FrameReader, buffer: &mut BytesMut) -> Vec<Frame> {
    let mut all = Vec::new();
    while let Ok(Some(frame)) = reader.next(buffer) {
        all.push(frame);
    }
    all
}

fn publish(qos: QoS, payload: usize) -> BytesMut {
    let mut out = BytesMut::new();
    encode_publish(
        &mut out,
        &Publish::new("a/b", vec![b'x'; payload], qos),
        7,
        Version::V5,
    );
    out
}

#[test]
fn oversized_publish_is_skipped_in_a_stream_of_small_pieces() {
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let stream = [publish(qos, 3), publish(qos, 5000), publish(qos, 4)].concat();
        for piece in [1, 7, 100, 6000] {
            let mut reader = FrameReader::new(1000);
            let mut buffer = BytesMut::new();
            let mut all = Vec::new();
            for bytes in stream.chunks(piece) {
                buffer.extend_from_slice(bytes);
                all.extend(frames(&mut reader, &mut buffer));
                assert!(buffer.capacity() < 16_384, "the payload is not collected");
            }
            assert_eq!(all.len(), 3, "{qos:?} in pieces of {piece}");
            let id = (qos != QoS::AtMostOnce).then_some(7);
            let Frame::Oversized(head) = &all[1] else {
                panic!("{:?}", all[1]);
            };
            assert_eq!((head.packet_id, head.qos, head.retain), (id, qos, false));
            assert_eq!(head.topic, "a/b");
        }
    }
}

#[test]
fn properties_of_a_publish_are_read() {
    let body = [
        &[0, 1, b't'][..],
        &[23],
        &[1, 1, 2, 0, 0, 0, 60],
        &[3, 0, 1, b'c', 0x0B, 5, 0x0B, 0x80, 1],
        &[0x26, 0, 1, b'k', 0, 1, b'v'],
        b"payload",
    ]
    .concat();
    let Ok(Packet::Publish(found)) = decode(0x30, Bytes::from(body), Version::V5) else {
        panic!("no PUBLISH")
    };
    let props = found.props.unwrap();
    assert!(props.payload_is_utf8);
    assert_eq!(
        (props.message_expiry, props.content_type.as_deref()),
        (Some(60), Some("c"))
    );
    assert_eq!(props.subscription_ids, [5, 128]);
    assert_eq!(props.user, [("k".to_owned(), "v".to_owned())]);
    assert_eq!(&found.payload[..], b"payload");
}

#[test]
fn malformed_packets_are_refused() {
    let cases: [(u8, &[u8]); 9] = [
        (0x36, &[0, 1, b't', 0, 1]),
        (0x32, &[0, 1, b't', 0, 0, 0]),
        (0x30, &[0, 9, b't']),
        (0x30, &[0, 1, b't', 2, 0x7F, 0]),
        (0x30, &[0, 1, b't', 4, 1, 1, 1, 1]),
        (0x20, &[2, 0, 0]),
        (0x60, &[0, 1]),
        (0x10, &[]),
        (0x90, &[0]),
    ];
    for (first, body) in cases {
        assert!(
            decode(first, Bytes::copy_from_slice(body), Version::V5).is_err(),
            "{first:02X} {body:02X?}"
        );
    }
}

#[test]
fn answer_of_a_server_that_speaks_only_311_is_understood_by_a_client_of_5() {
    let found = decode(0x20, Bytes::from_static(&[0, 1]), Version::V5);
    assert!(matches!(
        found,
        Ok(Packet::ConnAck(ConnAck {
            reason: 1,
            session_present: false,
            ..
        }))
    ));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), first in any::<u8>()) {
        for version in [Version::V5, Version::V311] {
            let _ = decode(first, Bytes::from(bytes.clone()), version);
        }
        let mut reader = FrameReader::new(64);
        let mut buffer = BytesMut::from(&bytes[..]);
        for frame in frames(&mut reader, &mut buffer) {
            if let Frame::Packet { first, body } = frame {
                let _ = decode(first, body, Version::V5);
            }
        }
    }

    #[test]
    fn truncated_and_damaged_packets_never_panic(cut in 0usize..60, at in 0usize..60, to in any::<u8>(), first in 2u8..15) {
        let mut body = [&[0, 1, b't', 0, 5][..], &[30], &[1, 1, 2, 0, 0, 0, 60, 3, 0, 1, b'c', 8, 0, 1, b'r', 9, 0, 1, b'd'], &[0x0B, 5, 0x26, 0, 1, b'k', 0, 1, b'v'], b"payload"].concat();
        if let Some(byte) = body.get_mut(at) {
            *byte = to;
        }
        body.truncate(cut);
        for flags in [0, 2, 4, 0xA] {
            let _ = decode(first << 4 | flags, Bytes::from(body.clone()), Version::V5);
        }
    }
}
