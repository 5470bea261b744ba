//! Identities that cannot be mixed up.
//!
//! A Portkey id is any string; an OpenTelemetry id is fixed-size binary. Both are kept (otel.md §1.2): `*Id` is what the
//! client said, `Otel*Id` what leaves as OTLP. The second is a pure function of the first, so that a log inserted a week
//! later lands in the same trace.

use crate::random::Rng;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Stamps an opaque text id as a type of its own.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Trims white space; blank text is no id. Longer than [`MAX_TEXT_ID`] bytes is cut at a character.
            pub fn parse(text: &str) -> Option<$name> {
                let text = text.trim();
                let end = text.floor_char_boundary(MAX_TEXT_ID);
                (!text.is_empty()).then(|| $name(text.get(..end).unwrap_or(text).to_owned()))
            }

            /// The id as the client knows it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// Stamps a fixed-length binary id whose text form is lower-case hex.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Reads exactly `2 × length` hex digits of either case, not all zero.
            pub fn from_hex(text: &str) -> Option<$name> {
                let mut out = [0; $len];
                if text.len() != 2 * $len {
                    return None;
                }
                for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let [high, low] = pair else { return None };
                    *byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
                }
                (out != [0; $len]).then_some($name(out))
            }

            /// A random id; never all zero.
            pub fn random(rng: &mut dyn Rng) -> $name {
                let mut out = [0; $len];
                rng.fill(&mut out);
                $name::nonzero(out)
            }

            fn nonzero(mut bytes: [u8; $len]) -> $name {
                if bytes == [0; $len] && let Some(last) = bytes.last_mut() {
                    *last = 1;
                }
                $name(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<$name, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                $name::from_hex(&text).ok_or_else(|| serde::de::Error::custom(concat!("not a ", stringify!($name))))
            }
        }
    };
}

text_id!(
    /// The trace id as the client gave it, or one of ours (`uuid v4`). Groups calls.
    TraceId
);
text_id!(
    /// A span id as the client gave it, or 16 random hex digits. Not unique: SDKs repeat them (protocol §1.9).
    SpanId
);
text_id!(
    /// The owner of a row. Nothing crosses from one to another.
    Workspace
);
hex_id!(
    /// Trace id on the OpenTelemetry side.
    OtelTraceId, 16
);
hex_id!(
    /// Span id on the OpenTelemetry side.
    OtelSpanId, 8
);
hex_id!(
    /// Our own name of one stored span: unique, and sorting by it sorts by start time (CF-24, CF-26).
    /// 48 bits of milliseconds, then 80 random bits.
    RecordId, 16
);

impl Workspace {
    /// The workspace of a deployment that has only one.
    pub fn default_one() -> Workspace {
        Workspace("default".to_owned())
    }
}

impl RecordId {
    /// A new id for something that started at `start`.
    pub fn mint(start: UnixMillis, rng: &mut dyn Rng) -> RecordId {
        let mut bytes = [0; 16];
        rng.fill(&mut bytes);
        for (to, from) in bytes.iter_mut().zip(start.0.to_be_bytes().into_iter().skip(2)) {
            *to = from;
        }
        RecordId::nonzero(bytes)
    }

    /// The first id that something started at `start` could have: the lower bound of a time range.
    pub fn floor(start: UnixMillis) -> RecordId {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(start.0.to_be_bytes().into_iter().skip(2)) {
            *to = from;
        }
        RecordId(bytes)
    }
}

/// Where a call may be sent: an index into the leaves of a resolved config. Opaque to `route`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub u16);

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Bytes of a client's id that are kept (protocol §5.1).
pub const MAX_TEXT_ID: usize = 256;
