//! Reason codes in words (MQTT 5.0, 2.4; return codes of 3.1.1, 3.2.2.3) and the kinds they belong to.

use crate::{ErrorKind, Version};

/// An MQTT 5 reason code in words.
pub(crate) fn reason_text(reason: u8) -> String {
    let text = match reason {
        0x80 => "unspecified error",
        0x81 => "malformed packet",
        0x82 => "protocol error",
        0x83 => "implementation specific error",
        0x84 => "unsupported protocol version",
        0x85 => "client identifier not valid",
        0x86 => "bad user name or password",
        0x87 => "not authorised",
        0x88 => "server unavailable",
        0x89 => "server busy",
        0x8A => "banned",
        0x8B => "server shutting down",
        0x8C => "bad authentication method",
        0x8D => "keep-alive timeout",
        0x8E => "session taken over by another client with the same client id",
        0x8F => "topic filter not valid",
        0x90 => "topic name not valid",
        0x91 => "packet identifier in use",
        0x93 => "receive maximum exceeded",
        0x95 => "packet too large",
        0x96 => "message rate too high",
        0x97 => "quota exceeded",
        0x98 => "administrative action",
        0x99 => "payload format not valid",
        0x9A => "retained messages are not supported",
        0x9B => "this QoS is not supported",
        0x9C => "use another server",
        0x9D => "server moved",
        0x9E => "shared subscriptions are not supported",
        0x9F => "connection rate exceeded",
        0xA0 => "maximum connect time",
        0xA1 => "subscription identifiers are not supported",
        0xA2 => "wildcard subscriptions are not supported",
        _ => "unknown reason",
    };
    format!("{text} (0x{reason:02X})")
}

/// Why a CONNACK refused us.
pub(crate) fn connack_refusal(reason: u8, version: Version) -> (ErrorKind, String) {
    let reason = match (version, reason) {
        // The return codes of 3.1.1 are also what a server that speaks only 3.1.1 answers to MQTT 5.
        (_, 1) => 0x84,
        (_, 2) => 0x85,
        (_, 3) => 0x88,
        (_, 4) => 0x86,
        (_, 5) => 0x87,
        (_, other) => other,
    };
    (kind_of(reason), reason_text(reason))
}

/// The kind of failure that an MQTT 5 reason stands for.
pub(crate) fn kind_of(reason: u8) -> ErrorKind {
    match reason {
        0x81 | 0x82 | 0x93 | 0x95 => ErrorKind::Protocol,
        0x84 => ErrorKind::UnsupportedVersion,
        0x85 => ErrorKind::ClientIdRefused,
        0x86 => ErrorKind::BadCredentials,
        0x87 => ErrorKind::NotAuthorised,
        0x88 | 0x89 | 0x8B | 0x9C | 0x9D | 0x9F => ErrorKind::ServerUnavailable,
        0x8D => ErrorKind::KeepAlive,
        0x8E => ErrorKind::TakenOver,
        _ => ErrorKind::Refused,
    }
}
