//! The way of a finished record to the queue.
//!
//! A message ends at 128,000 bytes, so a record that would not fit gives its largest bodies to object storage first, and
//! what storage does not take is cut to its beginning. Span facts are never dropped. Most records fit, and take no detour.

use crate::ports::{Objects, World};
use crate::time::UnixMillis;
use crate::trace::message::{Body, CallRecord, RECORD_VERSION};

/// Sends `record` off. Returns at once.
pub fn deliver<W: World>(world: &W, mut record: CallRecord) {
    record.lost_before = world.take_lost();
    let text = record.to_json();
    if text.len() <= RECORD_LIMIT {
        return world.commit(text);
    }
    let after = world.clone();
    world.defer(async move {
        let record = slim(record, &after.objects(), after.now()).await;
        after.commit(record.to_json());
    });
}

/// The beginning of a guard record, up to where `bridge.js` adds what it has seen.
pub fn guard_text(record: &CallRecord) -> String {
    let attempt = record.spans.last().map_or(record.call_id, |span| span.record_id);
    format!(r#"{{"v":{RECORD_VERSION},"guard":{{"record":{},"attempt_record_id":"{attempt}""#, record.to_json())
}

/// Makes a record fit: the largest body first, until it does.
async fn slim(mut record: CallRecord, objects: &impl Objects, now: UnixMillis) -> CallRecord {
    let mut excess = record.to_json().len().saturating_sub(RECORD_LIMIT);
    while excess > 0 {
        let call_id = record.call_id;
        let Some((index, body)) = bodies(&mut record).enumerate().max_by_key(|(_, body)| body.kept_bytes()) else { break };
        let before = body.kept_bytes();
        if before <= SMALLEST_MOVED {
            break;
        }
        let key = format!("bodies/{}/{call_id}-{index}", now.rfc3339().get(..10).unwrap_or_default().replace('-', "/"));
        *body = moved(std::mem::take(body), objects, key).await;
        excess = excess.saturating_sub(before.saturating_sub(body.kept_bytes()));
    }
    record
}

async fn moved(body: Body, objects: &impl Objects, key: String) -> Body {
    let (text, json) = match body {
        Body::Json(raw) => (String::from(raw), true),
        Body::Text(text) => (text, false),
        other => return other,
    };
    let bytes = text.len() as u64;
    let head: String = text.chars().take(HEAD_CHARS).collect();
    match objects.put(&key, text.into_bytes()).await {
        Ok(()) => Body::Object { key, bytes, json },
        Err(_) => Body::Truncated { bytes, head },
    }
}

fn bodies(record: &mut CallRecord) -> impl Iterator<Item = &mut Body> {
    record
        .exchanges
        .iter_mut()
        .flat_map(|exchange| [exchange.request.as_mut(), exchange.response.as_mut()])
        .flatten()
        .map(|message| &mut message.body)
}

/// Bytes of a record's JSON that fit a message of 128,000 with its framing (cloudflare facts §1.2).
pub const RECORD_LIMIT: usize = 120_000;
/// Moving less than this saves nothing.
const SMALLEST_MOVED: usize = 2_000;
const HEAD_CHARS: usize = 1_000;
