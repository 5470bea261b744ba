//! The parameters that a config puts into a body, or takes out of it (protocol §1.10 C4): `default_params` fill gaps, then
//! the client's own stand, then `override_params` win, then `drop_params` are deleted.
//!
//! The body is edited in its bytes: what a config does not name arrives as the client wrote it.

use super::Target;
use crate::error::GatewayError;
use crate::wire::splice::{self, Edit, Object};
use serde_json::Value;
use std::borrow::Cow;

/// The body for `target`; borrowed when there is nothing to change.
pub fn apply<'b>(target: &Target, body: &'b [u8]) -> Result<Cow<'b, [u8]>, GatewayError> {
    if target.default_params.is_empty() && target.override_params.is_empty() && target.drop_params.is_empty() {
        return Ok(Cow::Borrowed(body));
    }
    let object = Object::parse(body).map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
    let defaults =
        target.default_params.iter().filter(|(key, _)| object.get(key).is_none() && !target.override_params.contains_key(*key));
    let set: Vec<(&str, String)> =
        defaults.chain(&target.override_params).map(|(key, value)| (key.as_str(), value.to_string())).collect();
    let edits: Vec<Edit<'_>> = set.iter().map(|(key, value)| Edit::Set(key, value)).collect();
    let mut edited = object.splice(&edits);
    for path in &target.drop_params {
        edited = drop_path(&edited, path)?;
    }
    Ok(Cow::Owned(edited))
}

/// Deletes what `path` names: `a`, `a.b`, `list[0].x`, `list[*].x`. What is not there is ignored.
fn drop_path(body: &[u8], path: &str) -> Result<Vec<u8>, GatewayError> {
    let (head, rest) = match path.find(['.', '[']) {
        None => return splice::splice(body, &[Edit::Remove(path)]).map_err(|error| GatewayError::InvalidBody(error.to_string())),
        Some(at) => path.split_at(at),
    };
    let object = Object::parse(body).map_err(|error| GatewayError::InvalidBody(error.to_string()))?;
    let Some(mut value) = object.get(head).and_then(|raw| serde_json::from_str::<Value>(raw).ok()) else {
        return Ok(body.to_vec());
    };
    drop_inside(&mut value, rest);
    Ok(object.splice(&[Edit::Set(head, &value.to_string())]))
}

fn drop_inside(value: &mut Value, path: &str) {
    if let Some(rest) = path.strip_prefix('[') {
        let Some((index, rest)) = rest.split_once(']') else { return };
        let Value::Array(items) = value else { return };
        let chosen = items.iter_mut().enumerate().filter(|(at, _)| index == "*" || index.parse() == Ok(*at));
        chosen.for_each(|(_, item)| drop_inside(item, rest));
        return;
    }
    let path = path.strip_prefix('.').unwrap_or(path);
    let Value::Object(fields) = value else { return };
    match path.find(['.', '[']) {
        None => {
            fields.remove(path);
        }
        Some(at) => {
            let (head, rest) = path.split_at(at);
            if let Some(inner) = fields.get_mut(head) {
                drop_inside(inner, rest);
            }
        }
    }
}
