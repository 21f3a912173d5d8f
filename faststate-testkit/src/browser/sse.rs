//! A parser of server-sent events that is independent of the encoder.

use crate::{Failure, ensure};

/// One event of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SseEvent {
    /// The event type; empty if there is no `event` line.
    pub kind: String,
    /// The `data` lines, joined by LF.
    pub data: String,
}

/// Parses a stream in pieces of any size.
///
/// Like Datastar 1.0.4, it applies an `id` as soon as its line is complete: a client that resumes by id loses an event that
/// is cut off after its `id` line. It is stricter than a browser and refuses unknown fields, invalid UTF-8 and CR.
#[derive(Debug, Default)]
pub struct SseParser {
    line: Vec<u8>,
    event: SseEvent,
    has_data: bool,
    last_id: String,
    retry: Option<u64>,
    comments: usize,
}

impl SseParser {
    /// Parses bytes and returns the events that they complete.
    ///
    /// # Errors
    /// Fails if the bytes are not an event stream.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<SseEvent>, Failure> {
        let mut events = Vec::new();
        for byte in bytes {
            ensure!(*byte != b'\r', PROMISE, "a CR follows {:?}", String::from_utf8_lossy(&self.line));
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                events.extend(self.line(&line)?);
            } else {
                self.line.push(*byte);
            }
        }
        Ok(events)
    }

    /// Ends the connection. An incomplete event is discarded; the last id is kept.
    pub fn cut(&mut self) {
        self.line.clear();
        self.event = SseEvent::default();
        self.has_data = false;
    }

    /// Returns whether no event is incomplete.
    #[must_use]
    pub fn is_between_events(&self) -> bool {
        self.line.is_empty() && self.event == SseEvent::default() && !self.has_data
    }

    /// The last id; empty if there is none.
    #[must_use]
    pub fn last_id(&self) -> &str {
        &self.last_id
    }

    /// The reconnection time from `retry`, in milliseconds.
    #[must_use]
    pub const fn retry(&self) -> Option<u64> {
        self.retry
    }

    /// The number of comments, which are heartbeats.
    #[must_use]
    pub const fn comments(&self) -> usize {
        self.comments
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<SseEvent>, Failure> {
        let line = str::from_utf8(line).map_err(|error| Failure::error(PROMISE, &error))?;
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            return Ok(std::mem::take(&mut self.has_data).then_some(event));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => self.comments += 1,
            "event" => value.clone_into(&mut self.event.kind),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.event.data.push('\n');
                }
                self.event.data.push_str(value);
            }
            "id" => value.clone_into(&mut self.last_id),
            "retry" => {
                self.retry = Some(value.parse().map_err(|error| Failure::error(PROMISE, &error))?);
            }
            _ => return Err(Failure::new(PROMISE, format!("it has the field {field:?}"))),
        }
        Ok(None)
    }
}

const PROMISE: &str = "a stream contains only server-sent events (law 12)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_do_not_depend_on_piece_sizes() {
        let stream = "retry: 900\n\n: ping\n\nevent: a\ndata: é🦀\ndata:two\nid: 7\n\ndata\n\nid: 8\n\nevent: cut\ndata: x\n";
        let event = |kind: &str, data: &str| SseEvent { kind: kind.to_owned(), data: data.to_owned() };
        for size in 1..stream.len() {
            let mut parser = SseParser::default();
            let pieces = stream.as_bytes().chunks(size);
            let events: Vec<_> = pieces.flat_map(|piece| parser.feed(piece).unwrap()).collect();
            assert_eq!(events, [event("a", "é🦀\ntwo"), event("", "")], "in pieces of {size}");
            assert_eq!((parser.last_id(), parser.retry(), parser.comments()), ("8", Some(900), 1));
            assert!(!parser.is_between_events());
            parser.cut();
            assert_eq!(parser.feed(b"\n"), Ok(vec![]));
        }
    }

    #[test]
    fn id_is_applied_before_its_event_is_complete() {
        let mut parser = SseParser::default();
        assert_eq!(parser.feed(b"id: 7\ndata: x"), Ok(vec![]));
        parser.cut();
        assert_eq!(parser.last_id(), "7");
    }

    #[test]
    fn invalid_stream_is_refused() {
        for bad in [&b"data: a\rb\n"[..], b"nonsense: 1\n", b"data: \xff\n", b"retry: soon\n"] {
            assert!(SseParser::default().feed(bad).is_err());
        }
    }
}
