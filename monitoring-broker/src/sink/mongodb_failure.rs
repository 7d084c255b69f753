//! What errors of MongoDB mean. In: errors of the driver. Out: failures, or which documents an insert left out.
//! Texts end where a server begins to quote documents or commands: they are the devices'.

use ::mongodb::error::{Error, ErrorKind, IndexedWriteError};

use super::failure::{Failure, Reason};

/// A unique index has the key already.
const DUPLICATE_KEY: i32 = 11_000;

/// The documents that the server does not take, by their places, and what it said of the first. One that is there
/// already is taken.
///
/// # Errors
/// When trying again helps, or nothing is known of single documents.
pub fn left_out(error: &Error) -> Result<(Vec<usize>, Option<Failure>), Failure> {
    let insert = match &*error.kind {
        ErrorKind::InsertMany(insert) => insert,
        // The driver refuses what is too large, before it sends anything.
        ErrorKind::InvalidArgument { message, .. } => {
            return Err(Failure::new(Reason::Refused, message));
        }
        ErrorKind::Bson(error) => return Err(Failure::new(Reason::Refused, error)),
        _ => return Err(failure(error)),
    };
    if let Some(concern) = &insert.write_concern_error {
        // The documents may be lost with the primary that has them.
        let text = told(concern.code, &concern.message);
        return Err(Failure::new(Reason::Unavailable, text));
    }
    let (mut places, mut first) = (Vec::new(), None);
    for refusal in insert.write_errors.iter().flatten() {
        if is_there_already(refusal) {
            continue;
        }
        let failure = Failure::new(reason(refusal.code), told(refusal.code, &refusal.message));
        if !failure.is_refusal() {
            return Err(failure);
        }
        places.push(refusal.index);
        first.get_or_insert(failure);
    }
    Ok((places, first))
}

/// Why something else than an insert failed, or an insert as a whole.
pub fn failure(error: &Error) -> Failure {
    let text = error.kind.to_string();
    let is_tls = || {
        ["ertificate", "TLS", "Tls"]
            .iter()
            .any(|part| text.contains(part))
    };
    let reason = match &*error.kind {
        ErrorKind::Command(command) => {
            let text = told(command.code, &command.message);
            return Failure::new(reason(command.code), text);
        }
        ErrorKind::Authentication { .. } => Reason::Auth,
        ErrorKind::InvalidTlsConfig { .. } => Reason::Tls,
        ErrorKind::InvalidArgument { .. } | ErrorKind::IncompatibleServer { .. } => {
            Reason::Configuration
        }
        ErrorKind::InvalidResponse { .. } => Reason::Protocol,
        _ if is_tls() => Reason::Tls,
        _ => Reason::Connection,
    };
    Failure::new(reason, text)
}

/// Whether the identifier is taken: by the same message, as nothing else has it. An index of the collection's
/// owner that is unique as well refuses the message.
fn is_there_already(error: &IndexedWriteError) -> bool {
    error.code == DUPLICATE_KEY && is_of_identifier(&error.message)
}

/// Whether the index is that of `_id`. Its name is a word before the key, which is the device's; the owner's indexes may
/// have it in theirs.
fn is_of_identifier(message: &str) -> bool {
    let (about, _) = message.split_once("dup key").unwrap_or((message, ""));
    let is_apart = |c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '$'));
    about.split(is_apart).any(|word| word == "_id_")
}

fn reason(code: i32) -> Reason {
    match code {
        // Values, names, sizes, validators, unique indexes: they are about the document.
        2
        | 9
        | 14
        | 15
        | 22
        | 52..=57
        | 66
        | 121
        | 171
        | 10_334
        | 11_000
        | 16_755
        | 17_280
        | 17_419
        | 17_420 => Reason::Refused,
        8_000 | 11 | 13 | 18 | 31 => Reason::Auth,
        // Names, views, options of indexes, shard keys, commands that the server does not have.
        20 | 26 | 59 | 61 | 67 | 72 | 73 | 76 | 85 | 86 | 115 | 166 => Reason::Configuration,
        _ => Reason::Unavailable,
    }
}

fn told(code: i32, message: &str) -> String {
    let end = message.find(['{', '"', '\'']).unwrap_or(message.len());
    let text = message
        .get(..end)
        .unwrap_or_default()
        .trim_end_matches([' ', ':']);
    format!("{code}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_document_itself_gives_it_up() {
        for code in [2, 22, 52, 121, 10_334, 11_000] {
            assert_eq!(reason(code), Reason::Refused, "{code}");
        }
        for code in [
            6, 50, 64, 91, 112, 189, 262, 10_107, 11_600, 14_031, 16_500, 99_999,
        ] {
            assert_eq!(reason(code), Reason::Unavailable, "{code}");
        }
        assert_eq!(reason(13), Reason::Auth);
        assert_eq!(reason(26), Reason::Configuration);
    }

    #[test]
    fn a_message_is_there_already_only_if_the_index_of_identifiers_says_so() {
        let of = |index: &str| {
            is_of_identifier(&format!(
                "E11000 duplicate key error collection: a.b index: {index}"
            ))
        };
        assert!(of("_id_ dup key: { _id: \"a\" }"));
        assert!(of("_id_"));
        for index in [
            "meta.device_id_1_received_at_1 dup key: { meta.device_id: \"a\" }",
            "a_1 dup key: { a: \"_id_\" }",
            "my_id_ dup key: { a: 1 }",
        ] {
            assert!(!of(index), "{index}");
        }
    }

    #[test]
    fn what_a_device_has_sent_is_not_quoted() {
        let text =
            "E11000 duplicate key error collection: d.c index: a_1 dup key: { a: \"s3cret\" }";
        assert_eq!(
            told(11_000, text),
            "11000: E11000 duplicate key error collection: d.c index: a_1 dup key"
        );
        assert_eq!(
            told(
                13,
                "not authorized on d to execute command { insert: \"c\" }"
            ),
            "13: not authorized on d to execute command"
        );
    }
}
