//! `GET /bucket/key?follow` and `POST /bucket/key?close`: Sluice's own, for objects that grow.
//!
//! With `Accept: text/event-stream` each message, or piece, is an event whose id is where to go on from (WHATWG HTML, Server-sent
//! events), and what was missed is the event `lagged`. Without, the bytes come as they are, a newline behind each message; there
//! is no way to say in between that something is missing, so the answer breaks off then.
//!
//! A gateway that stops ends the events in mid-stream, without the event `end`: an `EventSource` comes back by itself, with the id of the
//! last one. Bytes break off, because their end would say that no more will come.

use std::future::{Future, ready};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::StreamBody;
use s3s::Body;
use sluice_provider::{Error, ErrorKind, Event, FollowFrom, Result};

use crate::s3::call::{Answer, Call, empty, set};
use crate::s3::error::Failure;
use crate::s3::headers;

/// How often a follower that is told nothing is told that nothing came, so that either side sees when the other is gone.
const HEARTBEAT: Duration = Duration::from_secs(10);

pub(crate) async fn follow(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    // Whether the sender may read the object, before it is followed.
    let found = call.parts.objects.head(&namespace, &call.key, &Default::default()).await;
    let found = match found {
        Ok(found) => found.info,
        Err(error) => return Err(call.unread(&namespace, &call.key, error.into()).await),
    };
    call.check_read(&namespace, &found.attributes)?;
    let events_wanted = call
        .headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.to_ascii_lowercase().contains("text/event-stream"));
    let since = match call.headers.get("last-event-id").and_then(|v| v.to_str().ok()) {
        Some(id) if events_wanted => Some(("last-event-id", id.to_owned())),
        _ => call.query.get("since").map(|since| ("since", since.to_owned())),
    };
    let from = match since {
        None => FollowFrom::Oldest,
        Some((_, text)) if text == "now" => FollowFrom::Now,
        Some((name, text)) => {
            let bad = || Failure::argument(name, &text, "It is the number of the last message or of the next byte, or `now`.");
            FollowFrom::Since(text.parse::<u64>().map_err(|_| bad())?)
        }
    };
    let followed = call.parts.objects.follow(&namespace, &call.key, from).await?;
    let drain = call.parts.drain.clone();
    let stops = async move { drain.draining().await };
    let mut response = Response::new(Body::empty());
    headers::from_attributes(&followed.info.attributes, response.headers_mut());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let bytes = if events_wanted {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        events(followed.events, followed.messages).take_until(stops).boxed()
    } else {
        or_broken_off(raw(followed.events, followed.messages), stops)
    };
    *response.body_mut() = Body::http_body_unsync(StreamBody::new(bytes.map_ok(Frame::data)));
    Ok(response)
}

/// Seals.
pub(crate) async fn close(call: &mut Call) -> Answer {
    let namespace = call.namespace()?;
    let info = call.parts.objects.seal(&namespace, &call.key).await?;
    let mut response = empty(StatusCode::OK);
    set(&mut response, "x-amz-object-size", &info.size.to_string());
    Ok(response)
}

fn raw(events: BoxStream<'static, Result<Event>>, messages: bool) -> BoxStream<'static, Result<Bytes>> {
    let bytes = events.map(move |event| match event? {
        Event::Data { bytes, .. } if messages => {
            let mut line = BytesMut::with_capacity(bytes.len() + 1);
            line.put(bytes);
            line.put_u8(b'\n');
            Ok(line.freeze())
        }
        Event::Data { bytes, .. } => Ok(bytes),
        Event::Lagged(missed) => Err(Error::new(ErrorKind::Unavailable, "a follower that was too slow").with("missed", missed)),
    });
    bytes.boxed()
}

/// Ends with the bytes, or in an error when `stops` comes first.
fn or_broken_off(
    bytes: BoxStream<'static, Result<Bytes>>,
    stops: impl Future<Output = ()> + Send + 'static,
) -> BoxStream<'static, Result<Bytes>> {
    let stopped = stream::once(stops).map(|()| Some(Err(Error::new(ErrorKind::Unavailable, "a gateway that stops"))));
    let bytes = bytes.map(Some).chain(stream::once(ready(None)));
    stream::select(bytes, stopped).take_while(|one| ready(one.is_some())).filter_map(ready).boxed()
}

fn events(events: BoxStream<'static, Result<Event>>, messages: bool) -> BoxStream<'static, Result<Bytes>> {
    let told = stream::unfold(Some(events), move |events| async move {
        let mut events = events?;
        match tokio::time::timeout(HEARTBEAT, events.next()).await {
            Err(_) => Some((Ok(Bytes::from_static(b":\n\n")), Some(events))),
            Ok(None) => Some((Ok(Bytes::from_static(b"event: end\ndata:\n\n")), None)),
            Ok(Some(Ok(event))) => Some((Ok(event_text(&event, messages)), Some(events))),
            Ok(Some(Err(error))) => Some((Err(error), None)),
        }
    });
    told.boxed()
}

fn event_text(event: &Event, messages: bool) -> Bytes {
    let mut text = String::new();
    match event {
        Event::Lagged(missed) => text.push_str(&format!("event: lagged\ndata: {missed}\n")),
        Event::Data { sequence, bytes } => {
            let id = if messages { *sequence } else { sequence.saturating_add(bytes.len() as u64) };
            text.push_str(&format!("id: {id}\n"));
            match std::str::from_utf8(bytes) {
                // Carriage returns end lines of events as well, and could not be told from newlines.
                Ok(message) if !message.contains('\r') => {
                    for line in message.split('\n') {
                        text.push_str("data: ");
                        text.push_str(line);
                        text.push('\n');
                    }
                }
                _ => {
                    text.push_str("event: base64\ndata: ");
                    STANDARD.encode_string(bytes, &mut text);
                    text.push('\n');
                }
            }
        }
    }
    text.push('\n');
    Bytes::from(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn events_say_what_was_sent() {
        let told = |bytes: &'static [u8], messages| {
            let event = Event::Data { sequence: 7, bytes: Bytes::from_static(bytes) };
            String::from_utf8(event_text(&event, messages).to_vec()).unwrap()
        };
        assert_eq!(told(b"one\ntwo", true), "id: 7\ndata: one\ndata: two\n\n");
        assert_eq!(told(b"abc", false), "id: 10\ndata: abc\n\n");
        assert_eq!(told(b"\xff", true), "id: 7\nevent: base64\ndata: /w==\n\n");
        assert_eq!(told(b"a\rb", true), "id: 7\nevent: base64\ndata: YQ1i\n\n");
        assert_eq!(event_text(&Event::Lagged(3), true), "event: lagged\ndata: 3\n\n");
    }

    #[tokio::test]
    async fn bytes_end_cleanly_only_when_nothing_more_will_come() {
        let bytes = || stream::iter([Ok(Bytes::from_static(b"a"))]);
        let told: Vec<_> = or_broken_off(bytes().boxed(), std::future::pending()).collect().await;
        assert!(matches!(&told[..], [Ok(_)]), "{told:?}");
        let mut told = or_broken_off(bytes().chain(stream::pending()).boxed(), ready(()));
        let (first, second) = (told.next().await.unwrap(), told.next().await.unwrap());
        assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
    }

    #[tokio::test]
    async fn a_gap_breaks_off_what_cannot_tell_of_it() {
        let event = Event::Data { sequence: 1, bytes: Bytes::from_static(b"a") };
        let told = raw(stream::iter([Ok(event), Ok(Event::Lagged(2))]).boxed(), true);
        let told: Vec<_> = told.collect().await;
        assert_eq!(told[0].as_ref().unwrap(), "a\n");
        assert!(told[1].is_err());
    }
}
