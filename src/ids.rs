//! Identities that cannot be mixed up.
//!
//! A Portkey id is any string; an OpenTelemetry id is fixed-size binary. Both are kept (otel.md §1.2): `*Id` is what the
//! client said, `Otel*Id` what leaves as OTLP. The second is a pure function of the first, so that a log inserted a week
//! later lands in the same trace.

use crate::random::Rng;
use crate::time::UnixMillis;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// Stamps an opaque text id as a type of its own. The default, no text, is no id: a record on its way may leave one out.
macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

/// Stamps a fixed-length binary id whose text form is lower-case hex. The default, all zero, is no id, as above.
macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
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

            /// Appends the text form.
            pub fn push_hex(&self, out: &mut String) {
                out.push_str(hex(&self.0, &mut [0; 2 * $len]));
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
                f.write_str(hex(&self.0, &mut [0; 2 * $len]))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(hex(&self.0, &mut [0; 2 * $len]))
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

impl TraceId {
    /// A new one of ours: `uuid v4` with hyphens.
    pub fn random(rng: &mut dyn Rng) -> TraceId {
        let mut bytes = [0; 16];
        rng.fill(&mut bytes);
        let bits = u128::from_be_bytes(bytes) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let (bytes, mut out) = (bits.to_be_bytes(), [0; 32]);
        let digits = hex(&bytes, &mut out);
        let groups = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
        TraceId(groups.join("-"))
    }
}

impl SpanId {
    /// A new one of ours: 16 hex digits, so that its OpenTelemetry side reads the same.
    pub fn random(rng: &mut dyn Rng) -> SpanId {
        OtelSpanId::random(rng).into()
    }
}

impl From<OtelTraceId> for TraceId {
    fn from(id: OtelTraceId) -> TraceId {
        TraceId(hex(&id.0, &mut [0; 32]).to_owned())
    }
}

impl From<OtelSpanId> for SpanId {
    fn from(id: OtelSpanId) -> SpanId {
        SpanId(hex(&id.0, &mut [0; 16]).to_owned())
    }
}

impl Workspace {
    /// What keeps equal trace ids of two owners apart (otel.md §1.3). Empty for the workspace `default`, so that a
    /// deployment with one owner derives what anyone would derive.
    pub fn namespace(&self) -> &str {
        if self.0 == "default" { "" } else { &self.0 }
    }
}

impl OtelTraceId {
    /// The id that `raw` always has inside `namespace` (otel.md §1.3). Hex and UUIDs are globally meaningful already and
    /// stay what they are; 16 digits are padded on the left; anything else is hashed.
    pub fn derive(namespace: &str, raw: &TraceId) -> OtelTraceId {
        let text = raw.as_str();
        let given = match text.len() {
            16 => OtelTraceId::from_hex(&format!("{text:0>32}")),
            36 if text.bytes().enumerate().all(|(at, byte)| matches!(at, 8 | 13 | 18 | 23) == (byte == b'-')) => {
                OtelTraceId::from_hex(&text.replace('-', ""))
            }
            _ => OtelTraceId::from_hex(text),
        };
        given.unwrap_or_else(|| OtelTraceId::nonzero(hash([b"trace", namespace.as_bytes(), text.as_bytes()])))
    }
}

impl OtelSpanId {
    /// The id that `raw` always has inside `trace` (otel.md §1.4). The trace is hashed in because some backends keep span
    /// ids globally unique.
    pub fn derive(trace: OtelTraceId, raw: &SpanId) -> OtelSpanId {
        let text = raw.as_str();
        OtelSpanId::from_hex(text).unwrap_or_else(|| OtelSpanId::nonzero(hash([b"span", &trace.0, text.as_bytes()])))
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

/// The first `N` bytes (at most 32) of the SHA-256 of `parts`, joined by NUL.
fn hash<const N: usize>(parts: [&[u8]; 3]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(Sha256::digest(parts.join(&0))) {
        *to = from;
    }
    out
}

/// `bytes` as lower-case hex in `out`, which is twice as long. `{:02x}` costs ten times as much, and a record has a dozen ids.
fn hex<'o>(bytes: &[u8], out: &'o mut [u8]) -> &'o str {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
    }
    str::from_utf8(out).unwrap_or_default()
}

fn hex_digit(byte: u8) -> Option<u8> {
    (byte as char).to_digit(16).map(|digit| digit as u8)
}

/// Bytes of a client's id that are kept (protocol §5.1).
pub const MAX_TEXT_ID: usize = 256;
