//! The stored form of messages that were committed together. In: messages with their topic numbers. Out: records of
//! bytes with the sorted topic numbers beside them, and the messages back from such a record.
//! Knows neither SQL nor what a topic number stands for.

use bytes::{Buf as _, Bytes};

use super::StoreError;

/// The topic number of a message that carries device and topic itself, because the catalog is full.
pub const INLINE: u32 = 0;

/// Messages in a block: whoever looks for one reads no more than these.
const MESSAGES: usize = 64;

const QOS: u8 = 0b0000_0011;
const RETAINED: u8 = 0b0000_0100;
const DUPLICATE: u8 = 0b0000_1000;
const PROPERTIES: u8 = 0b0001_0000;
const PREVIOUS: u8 = 0b0010_0000;

/// MQTT 5 properties that are kept with a message (MQTT 5.0, 3.3.2.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Content type.
    pub content_type: Option<String>,
    /// User properties, in order; names may repeat.
    pub user: Vec<(String, String)>,
    /// Response topic.
    pub response_topic: Option<String>,
    /// Correlation data.
    pub correlation_data: Option<Bytes>,
}

/// One message inside a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Number of device and topic in the catalog, or [`INLINE`].
    pub topic: u32,
    /// Device and topic of an [`INLINE`] record.
    pub inline: Option<Box<(String, String)>>,
    /// Sequence of the message before it with the same number; 0: there is none, or it is not known.
    pub previous: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Sent because of a new subscription.
    pub retained: bool,
    /// The packet's DUP flag.
    pub duplicate: bool,
    /// MQTT 5 properties.
    pub properties: Option<Box<Properties>>,
    /// The payload.
    pub payload: Bytes,
}

/// A part of a committed batch: messages of the sequences `first` to `last`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Sequence of the first message.
    pub first: u64,
    /// Sequence of the last message.
    pub last: u64,
    /// The earliest time in it.
    pub time_min: i64,
    /// The latest time in it.
    pub time_max: i64,
    /// The topic numbers in it, sorted, without repetition.
    pub topics: Box<[u32]>,
    /// The records, checksum first.
    pub data: Bytes,
}

impl Block {
    /// Encodes a batch, in as many blocks as it needs.
    pub fn encode_all(first: u64, records: &[Record]) -> Vec<Self> {
        let (mut blocks, mut next) = (Vec::new(), first);
        for part in records.chunks(MESSAGES) {
            if let Some(block) = Self::encode(next, part) {
                next = block.last.saturating_add(1);
                blocks.push(block);
            }
        }
        blocks
    }

    /// Encodes one block; `None` if it would be empty.
    pub fn encode(first: u64, records: &[Record]) -> Option<Self> {
        let count = u64::try_from(records.len()).ok()?;
        let mut data = Vec::with_capacity(4 + records.iter().map(size_hint).sum::<usize>());
        data.extend_from_slice(&[0; 4]);
        let mut before = 0;
        for (sequence, record) in (first..).zip(records) {
            put_record(&mut data, record, sequence, before);
            before = record.time;
        }
        let sum = crc32fast::hash(data.get(4..)?);
        data.get_mut(..4)?.copy_from_slice(&sum.to_le_bytes());
        let mut topics: Vec<u32> = records.iter().map(|record| record.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        Some(Self {
            first,
            last: first.checked_add(count.checked_sub(1)?)?,
            time_min: records.iter().map(|record| record.time).min()?,
            time_max: records.iter().map(|record| record.time).max()?,
            topics: topics.into_boxed_slice(),
            data: data.into(),
        })
    }

    /// The topic numbers as they are stored: differences, seven bits a byte.
    pub fn encoded_topics(&self) -> Vec<u8> {
        let (mut out, mut before) = (Vec::with_capacity(self.topics.len() * 2), 0);
        for topic in &self.topics {
            put_number(&mut out, u64::from(topic - before));
            before = *topic;
        }
        out
    }

    /// The records in order, with their sequences. An error ends the iteration.
    pub fn records(&self) -> Records {
        let mut data = self.data.clone();
        let intact = data.len() >= 4 && {
            let sum = data.get_u32_le();
            sum == crc32fast::hash(&data)
        };
        Records {
            data,
            first: self.first,
            next: self.first,
            last: self.last,
            time: 0,
            intact,
        }
    }
}

/// The topic numbers back from [`Block::encoded_topics`].
pub fn decode_topics(mut encoded: &[u8]) -> Result<Box<[u32]>, StoreError> {
    let (mut topics, mut before) = (Vec::new(), 0_u32);
    while !encoded.is_empty() {
        let step = take_number(&mut encoded).and_then(|step| u32::try_from(step).ok());
        before = step
            .and_then(|step| before.checked_add(step))
            .ok_or_else(damaged_index)?;
        topics.push(before);
    }
    Ok(topics.into_boxed_slice())
}

/// Whether [`Block::encoded_topics`] name one of these topics, which are sorted, or [`INLINE`]. Reads no further than it must:
/// a query for one of many devices asks this of thousands of blocks.
pub fn names_one_of(mut encoded: &[u8], wanted: &[u32]) -> Result<bool, StoreError> {
    let (mut topic, mut wanted) = (0_u32, wanted.iter().copied().peekable());
    while !encoded.is_empty() {
        let step = take_number(&mut encoded).and_then(|step| u32::try_from(step).ok());
        topic = step
            .and_then(|step| topic.checked_add(step))
            .ok_or_else(damaged_index)?;
        while wanted.next_if(|wanted| *wanted < topic).is_some() {}
        match wanted.peek() {
            _ if topic == INLINE => return Ok(true),
            Some(wanted) if *wanted == topic => return Ok(true),
            Some(_) => {}
            None => return Ok(false),
        }
    }
    Ok(false)
}

/// See [`Block::records`].
#[derive(Debug)]
pub struct Records {
    data: Bytes,
    first: u64,
    next: u64,
    last: u64,
    time: i64,
    intact: bool,
}

impl Iterator for Records {
    type Item = Result<(u64, Record), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_where(|_, _, _| true)
    }
}

impl Records {
    /// The next record whose sequence, topic number and time fit; the others are passed over at little cost.
    pub fn next_where(
        &mut self,
        fits: impl Fn(u64, u32, i64) -> bool,
    ) -> Option<Result<(u64, Record), StoreError>> {
        while self.next <= self.last {
            let sequence = self.next;
            let found = self.intact.then(|| self.take(sequence, &fits)).flatten();
            let Some(found) = found else {
                return Some(Err(self.damaged()));
            };
            self.next += 1;
            if let Some(record) = found {
                return Some(Ok((sequence, record)));
            }
        }
        None
    }

    /// The record of the next sequence; none inside if it does not fit.
    fn take(
        &mut self,
        sequence: u64,
        fits: impl Fn(u64, u32, i64) -> bool,
    ) -> Option<Option<Record>> {
        let head = Head::take(&mut self.data, sequence, self.time)?;
        self.time = head.time;
        if fits(sequence, head.topic, head.time) {
            return head.record(&mut self.data).map(Some);
        }
        head.skip(&mut self.data)?;
        Some(None)
    }

    fn damaged(&mut self) -> StoreError {
        let why = format!(
            "the block of messages {} to {} does not match its checksum or form",
            self.first, self.last
        );
        self.next = u64::MAX;
        self.last = 0;
        StoreError::Damaged(why)
    }
}

fn damaged_index() -> StoreError {
    StoreError::Damaged("the list of a block's topics cannot be read".to_owned())
}

fn size_hint(record: &Record) -> usize {
    record.payload.len() + 24
}

fn put_record(out: &mut Vec<u8>, record: &Record, sequence: u64, before: i64) {
    put_number(out, u64::from(record.topic));
    if let Some((device, topic)) = record.inline.as_deref() {
        put_bytes(out, device.as_bytes());
        put_bytes(out, topic.as_bytes());
    }
    put_number(out, zigzag(record.time.wrapping_sub(before)));
    let mut flags = record.qos & QOS;
    flags |= if record.retained { RETAINED } else { 0 };
    flags |= if record.duplicate { DUPLICATE } else { 0 };
    flags |= record.properties.as_ref().map_or(0, |_| PROPERTIES);
    // Nothing comes before itself.
    let distance = sequence.saturating_sub(record.previous);
    let has_previous = record.previous > 0 && distance > 0;
    flags |= if has_previous { PREVIOUS } else { 0 };
    out.push(flags);
    if has_previous {
        put_number(out, distance);
    }
    if let Some(properties) = &record.properties {
        put_properties(out, properties);
    }
    put_bytes(out, &record.payload);
}

/// What comes before the properties and the payload.
struct Head {
    topic: u32,
    inline: Option<Box<(String, String)>>,
    time: i64,
    flags: u8,
    previous: u64,
}

impl Head {
    fn take(data: &mut Bytes, sequence: u64, before: i64) -> Option<Self> {
        let topic = u32::try_from(get_number(data)?).ok()?;
        let inline = if topic == INLINE {
            Some(Box::new((get_text(data)?, get_text(data)?)))
        } else {
            None
        };
        let time = before.wrapping_add(unzigzag(get_number(data)?));
        let flags = data.try_get_u8().ok()?;
        let previous = if flags & PREVIOUS == 0 {
            0
        } else {
            sequence.checked_sub(get_number(data)?)?
        };
        Some(Self {
            topic,
            inline,
            time,
            flags,
            previous,
        })
    }

    fn properties(&self, data: &mut Bytes) -> Option<Option<Box<Properties>>> {
        if self.flags & PROPERTIES == 0 {
            return Some(None);
        }
        Some(Some(Box::new(get_properties(data)?)))
    }

    fn record(self, data: &mut Bytes) -> Option<Record> {
        let properties = self.properties(data)?;
        Some(Record {
            topic: self.topic,
            inline: self.inline,
            previous: self.previous,
            time: self.time,
            qos: self.flags & QOS,
            retained: self.flags & RETAINED != 0,
            duplicate: self.flags & DUPLICATE != 0,
            properties,
            payload: get_bytes(data)?,
        })
    }

    fn skip(&self, data: &mut Bytes) -> Option<()> {
        self.properties(data)?;
        let length = usize::try_from(get_number(data)?).ok()?;
        (length <= data.len()).then(|| data.advance(length))
    }
}

fn put_properties(out: &mut Vec<u8>, properties: &Properties) {
    put_optional(out, properties.content_type.as_deref().map(str::as_bytes));
    put_optional(out, properties.response_topic.as_deref().map(str::as_bytes));
    put_optional(out, properties.correlation_data.as_deref());
    for (name, value) in &properties.user {
        out.push(1);
        put_bytes(out, name.as_bytes());
        put_bytes(out, value.as_bytes());
    }
    out.push(0);
}

fn get_properties(data: &mut Bytes) -> Option<Properties> {
    let text = |bytes: Bytes| String::from_utf8(bytes.into()).ok();
    let content_type = get_optional(data)?.and_then(text);
    let response_topic = get_optional(data)?.and_then(text);
    let correlation_data = get_optional(data)?;
    let mut user = Vec::new();
    while data.try_get_u8().ok()? != 0 {
        user.push((get_text(data)?, get_text(data)?));
    }
    Some(Properties {
        content_type,
        user,
        response_topic,
        correlation_data,
    })
}

fn put_optional(out: &mut Vec<u8>, value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put_bytes(out, value);
    }
}

fn get_optional(data: &mut Bytes) -> Option<Option<Bytes>> {
    match data.try_get_u8().ok()? {
        0 => Some(None),
        _ => Some(Some(get_bytes(data)?)),
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A length always fits: no target of ours has more than 64 bits.
    put_number(out, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    out.extend_from_slice(bytes);
}

fn get_bytes(data: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(get_number(data)?).ok()?;
    (length <= data.len()).then(|| data.split_to(length))
}

fn get_text(data: &mut Bytes) -> Option<String> {
    String::from_utf8(get_bytes(data)?.into()).ok()
}

fn put_number(out: &mut Vec<u8>, mut value: u64) {
    loop {
        let low = value.to_le_bytes()[0] & 0x7f;
        value >>= 7;
        if value == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn get_number(data: &mut Bytes) -> Option<u64> {
    let mut slice: &[u8] = data;
    let before = slice.len();
    let value = take_number(&mut slice)?;
    let used = before - slice.len();
    data.advance(used);
    Some(value)
}

fn take_number(data: &mut &[u8]) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0_u32);
    loop {
        let (byte, rest) = data.split_first()?;
        *data = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
        shift += 7;
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn properties() -> impl Strategy<Value = Option<Box<Properties>>> {
        let some = (
            proptest::option::of(".{0,8}"),
            proptest::collection::vec((".{0,5}", ".{0,5}"), 0..3),
            proptest::option::of(".{0,8}"),
            proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
        );
        proptest::option::of(some.prop_map(|(content_type, user, response_topic, data)| {
            Box::new(Properties {
                content_type,
                user,
                response_topic,
                correlation_data: data.map(Bytes::from),
            })
        }))
    }

    fn record() -> impl Strategy<Value = Record> {
        (
            0_u32..50,
            any::<i64>(),
            0_u8..3,
            any::<(bool, bool)>(),
            properties(),
            proptest::collection::vec(any::<u8>(), 0..300),
        )
            .prop_map(|(topic, time, qos, flags, properties, payload)| Record {
                topic,
                inline: (topic == INLINE).then(|| Box::new(("s/d".to_owned(), "t/é".to_owned()))),
                previous: u64::from(topic % 3),
                time,
                qos,
                retained: flags.0,
                duplicate: flags.1,
                properties,
                payload: payload.into(),
            })
    }

    proptest! {
        #[test]
        fn block_gives_back_what_it_was_made_of(
            first in 1..u64::MAX / 2,
            records in proptest::collection::vec(record(), 1..40),
        ) {
            let block = Block::encode(first, &records).unwrap();
            let back: Vec<_> = block.records().collect::<Result<_, _>>().unwrap();
            let expected: Vec<_> = (first..).zip(records).collect();
            prop_assert_eq!(back, expected);
            prop_assert_eq!(decode_topics(&block.encoded_topics()).unwrap(), block.topics);
        }

        #[test]
        fn records_that_do_not_fit_are_passed_over(
            records in proptest::collection::vec(record(), 1..40),
            topics in proptest::collection::btree_set(0_u32..50, 0..50),
        ) {
            let block = Block::encode(10, &records).unwrap();
            let fits = |_: u64, topic: u32, _: i64| topics.contains(&topic);
            let mut found = block.records();
            let found: Vec<_> = std::iter::from_fn(|| found.next_where(fits)).collect::<Result<_, _>>().unwrap();
            let wanted = (10..).zip(records).filter(|(_, record)| topics.contains(&record.topic));
            prop_assert_eq!(found, wanted.collect::<Vec<_>>());
        }

        #[test]
        fn damaged_block_is_an_error_and_never_a_panic(
            records in proptest::collection::vec(record(), 1..5),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
        ) {
            let mut block = Block::encode(1, &records).unwrap();
            let mut data = block.data.to_vec();
            data[at.index(block.data.len())] ^= 1 << bit;
            block.data = data.into();
            prop_assert!(block.records().any(|record| record.is_err()));
        }
    }

    proptest! {
        #[test]
        fn topics_are_found_in_their_encoded_form(
            records in proptest::collection::vec(record(), 1..40),
            wanted in proptest::collection::btree_set(1_u32..60, 0..5),
        ) {
            let block = Block::encode(1, &records).unwrap();
            let wanted: Vec<_> = wanted.into_iter().collect();
            let expected = block
                .topics
                .iter()
                .any(|topic| *topic == INLINE || wanted.contains(topic));
            prop_assert_eq!(names_one_of(&block.encoded_topics(), &wanted).unwrap(), expected);
        }
    }

    #[test]
    fn empty_batch_is_no_block() {
        assert_eq!(Block::encode(1, &[]), None);
    }
}
