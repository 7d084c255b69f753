//! What a fuzzer throws at the reader of packets. In: a byte that chooses version, limit and pieces, then a server's bytes.
//! Out: a panic if it reads differently in pieces than at once, or collects what it should skip.

use bytes::BytesMut;

use super::{Frame, FrameReader, decode};
use crate::Version;

/// The largest PUBLISH that is not skipped.
const LIMIT: u32 = 1024;

/// Reads a server's bytes at once and in pieces.
pub fn run(data: &[u8]) {
    let Some((how, stream)) = data.split_first() else {
        return;
    };
    let version = if how & 1 == 0 {
        Version::V311
    } else {
        Version::V5
    };
    let size = usize::from(how >> 1) + 1;
    let whole = read(stream.chunks(stream.len().max(1)));
    assert_eq!(whole, read(stream.chunks(size)), "in pieces of {size}");
    for frame in whole.0 {
        if let Frame::Packet { first, body } = frame {
            let len = body.len();
            // What it refuses ends the connection; what it takes is no larger than what came.
            if let Ok(super::Packet::Publish(publish)) = decode(first, body, version) {
                assert!(publish.topic.len() + publish.payload.len() <= len);
            }
        }
    }
}

/// The frames until the first that is wrong, and whether there is one.
fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, bool) {
    let mut reader = FrameReader::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut frames = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match reader.next(&mut buffer) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_corpus_of_packets_is_read() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/packets");
        let mut read = 0;
        for file in corpus.read_dir().unwrap() {
            super::run(&std::fs::read(file.unwrap().path()).unwrap());
            read += 1;
        }
        assert!(read > 0, "it is empty");
    }
}
