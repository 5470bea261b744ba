//! An answer of the gateway, and the ones that it makes itself.

use super::JSON;
use crate::error::GatewayError;
use crate::headers::Headers;

/// An answer to a request.
#[derive(Debug)]
pub struct Reply<N> {
    /// HTTP status.
    pub status: u16,
    /// Headers; they win over an upstream's.
    pub headers: Headers,
    /// The body.
    pub body: ReplyBody<N>,
}

/// The body of an answer, and whose headers lie under ours.
#[derive(Debug)]
pub enum ReplyBody<N> {
    /// Ours.
    Own(Vec<u8>),
    /// Ours, under the upstream's headers.
    Rewritten(N, Vec<u8>),
    /// The upstream's, untouched.
    Upstream(N),
}

pub(super) fn own<N>(status: u16, body: String) -> Reply<N> {
    let mut headers = Headers::default();
    headers.push("content-type", JSON);
    headers.push("access-control-allow-origin", "*");
    Reply { status, headers, body: ReplyBody::Own(body.into_bytes()) }
}

pub(super) fn refusal<N>(error: &GatewayError) -> Reply<N> {
    let mut reply = own(error.public().status, error.body());
    for (name, value) in error.headers().iter() {
        reply.headers.push(name, value);
    }
    reply
}

pub(super) fn preflight<N>(headers: &Headers) -> Reply<N> {
    let asked = headers.text("access-control-request-headers").unwrap_or("*");
    let headers = [
        ("access-control-allow-origin", "*"),
        ("access-control-allow-methods", "GET, POST, PUT, DELETE, OPTIONS"),
        ("access-control-allow-headers", asked),
        ("access-control-max-age", "86400"),
        ("vary", "access-control-request-headers"),
    ];
    Reply { status: 204, headers: headers.into_iter().collect(), body: ReplyBody::Own(Vec::new()) }
}
