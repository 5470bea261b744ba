//! Server-sent events: bytes in, events out, indifferent to how the bytes were cut.
//!
//! Decides only what an event is (HTML standard §9.2): an event ends at a blank line; LF, CRLF and CR end a line; several
//! `data` lines join with LF; one space after the colon is dropped; comments and unknown fields are skipped; a byte order
//! mark at the very start is skipped. What an event *means* is the dialect's business. Text after the last blank line is
//! not an event: [`Decoder::rest`] says whether there was any, so that a cut stream is not taken for a finished one.

use std::borrow::Cow;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// The `event` field; empty when absent.
    pub name: String,
    /// The `data` lines joined with LF. Invalid UTF-8 became U+FFFD.
    pub data: String,
}

/// Takes bytes as they arrive.
///
/// Invariant: `line` holds the bytes of the current line that have arrived, without any line end.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    event: Event,
    has_data: bool,
    after_cr: bool,
    started: bool,
}

/// An event grew beyond [`MAX_LINE`]: this is no event stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineTooLong;

impl Decoder {
    /// Feeds `bytes`, and hands every event that they complete to `on_event`.
    pub fn push(&mut self, bytes: &[u8], mut on_event: impl FnMut(Event)) -> Result<(), LineTooLong> {
        let mut rest = bytes;
        while let Some(first) = rest.first() {
            if std::mem::take(&mut self.after_cr) && *first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                return self.extend(rest);
            };
            let (line, tail) = rest.split_at(end);
            self.extend(line)?;
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            if let Some(event) = self.end_line() {
                on_event(event);
            }
        }
        Ok(())
    }

    /// Whether bytes have arrived that no event has been made of yet (a partial line, or fields without a blank line).
    pub fn rest(&self) -> bool {
        self.has_data || !self.line.is_empty()
    }

    fn extend(&mut self, bytes: &[u8]) -> Result<(), LineTooLong> {
        if self.event.data.len() + self.line.len() + bytes.len() > MAX_LINE {
            return Err(LineTooLong);
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        let mut text = line.as_slice();
        if !std::mem::replace(&mut self.started, true) {
            text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        }
        if text.is_empty() {
            let event = std::mem::take(&mut self.event);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let colon = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
        let (field, value) = text.split_at(colon);
        let value = value.strip_prefix(b":").unwrap_or(value);
        let value = lossy(value.strip_prefix(b" ").unwrap_or(value));
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(&value);
            }
            b"event" => self.event.name = value.into_owned(),
            _ => {}
        }
        None
    }
}

/// `bytes` as text, with U+FFFD for what is not UTF-8. The check that text usually passes is several times faster than
/// [`String::from_utf8_lossy`] alone.
pub(crate) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The longest event that is taken, in one line or in many: 1 MiB (CF-13).
pub const MAX_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(pieces: &[&[u8]]) -> (Vec<Event>, bool) {
        let (mut decoder, mut events) = (Decoder::default(), Vec::new());
        for piece in pieces {
            decoder.push(piece, |event| events.push(event)).unwrap();
        }
        let rest = decoder.rest();
        (events, rest)
    }

    fn event(name: &str, data: &str) -> Event {
        Event { name: name.into(), data: data.into() }
    }

    const ODDITIES: &[u8] = "\u{feff}data: {\"a\":\"é✓\"}\r\n\r\n: comment\nevent: ping\ndata:x\ndata: y\r\rid: 7\nretry: 1\n\ndata\n\ndata: [DONE]\n\n".as_bytes();

    #[test]
    fn every_framing_of_the_standard_is_understood() {
        let (events, rest) = decode(&[ODDITIES]);
        assert_eq!(events, [event("", "{\"a\":\"é✓\"}"), event("ping", "x\ny"), event("", ""), event("", "[DONE]")]);
        assert!(!rest);
    }

    #[test]
    fn a_cut_at_any_byte_changes_nothing() {
        let whole = decode(&[ODDITIES]);
        for cut in 0..=ODDITIES.len() {
            let (head, tail) = ODDITIES.split_at(cut);
            assert_eq!(decode(&[head, tail]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = ODDITIES.chunks(1).collect();
        assert_eq!(decode(&bytes), whole);
    }

    #[test]
    fn text_without_a_blank_line_is_no_event() {
        assert_eq!(decode(&[b"data: a\n\ndata: b\n"]), (vec![event("", "a")], true));
        assert_eq!(decode(&[b"data: a\n\ndat"]), (vec![event("", "a")], true));
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(&vec![b'x'; MAX_LINE], |_| ()), Ok(()));
        assert_eq!(decoder.push(b"x", |_| ()), Err(LineTooLong));
    }

    #[test]
    fn an_event_of_endless_lines_is_refused() {
        let (mut decoder, line) = (Decoder::default(), format!("data: {}\n", "x".repeat(1 << 16)));
        let refused = (0..20).position(|_| decoder.push(line.as_bytes(), |_| ()).is_err());
        assert_eq!(refused, Some(15));
    }
}
