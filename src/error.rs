//! Every way in which the gateway itself says no, and the one place that gives it a status, a public code and a label.
//!
//! What an upstream said is not an error of the gateway: it is an answer, and passes through. What our internals said
//! never reaches a caller. `code` is a stable snake_case word; it doubles as the metric label, therefore it holds no values.

use crate::headers::Headers;
use serde_json::json;

/// One mistake in a config, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Path from the root of the config: `strategy.targets[2].weight`; empty for the whole.
    pub path: String,
    /// What is wrong there, and what would be right.
    pub message: String,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayError {
    /// The request body is longer than the limit, in bytes.
    BodyTooLarge(u64),
    /// A fault of the gateway; the text is for operators and stays inside.
    Internal(String),
    /// The request body is not what the route takes; the text says how.
    InvalidBody(String),
    /// All mistakes of a config at once.
    InvalidConfig(Vec<Problem>),
    /// The config is not JSON, or not an object; the text says how.
    InvalidConfigJson(String),
    /// A content type that no route takes.
    InvalidContentType,
    /// A custom host that must not be called; the text says why.
    InvalidCustomHost(String),
    /// A request header that cannot be honoured; the text names it.
    InvalidHeader(String),
    /// No provider of that name.
    InvalidProvider(String),
    /// A query parameter or path segment that cannot be read; the text names it.
    InvalidQuery(String),
    /// The path exists, the method does not; the methods that do.
    MethodNotAllowed(&'static str),
    /// A provider needs a key and there is none; the text names the provider and the secret.
    MissingCredential(String),
    /// Neither a config nor a provider header.
    MissingProvider,
    /// No condition of the strategy at that path holds, and it has no default.
    NoTarget(String),
    /// The deployment has no admin key.
    NotConfigured,
    /// No such route.
    NotFound,
    /// The store cannot be reached; the text stays inside.
    StoreUnavailable(String),
    /// No such trace (or log), by its public code and its id.
    UnknownRecord(&'static str, String),
    /// Missing or wrong gateway key.
    Unauthorized,
    /// The provider does not have the operation; the text names both, and the target.
    UnsupportedOperation(String),
    /// An upstream's answer that is no answer; the text says why.
    UpstreamMalformed(String),
    /// Understood, and not there yet (or not for that provider); the text names it.
    Unsupported(String),
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Public {
    /// HTTP status.
    pub status: u16,
    /// Stable word.
    pub code: &'static str,
    /// OpenAI's `error.type` for that status (conventions, error rules).
    pub kind: &'static str,
    /// One or two sentences.
    pub message: String,
}

impl GatewayError {
    /// The one map from an error to what the outside sees. A new case does not compile until someone decides.
    pub fn public(&self) -> Public {
        use GatewayError::*;
        let (status, code, message) = match self {
            BodyTooLarge(limit) => {
                (413, "body_too_large", format!("The request body is larger than {limit} bytes (the var MAX_BODY_BYTES)."))
            }
            Internal(_) => (500, "internal_error", "Something went wrong inside the gateway.".to_owned()),
            InvalidBody(how) => (400, "invalid_body", format!("Invalid request body: {how}")),
            InvalidConfig(problems) => {
                let listed: Vec<String> = problems.iter().map(Problem::to_string).collect();
                (400, "invalid_config", format!("Invalid config passed: {}", listed.join("; ")))
            }
            InvalidConfigJson(how) => {
                (400, "invalid_config_json", format!("Invalid config passed, it must be a JSON object: {how}"))
            }
            InvalidContentType => {
                (400, "invalid_content_type", "Invalid content type passed; this route takes application/json.".to_owned())
            }
            InvalidCustomHost(why) => (400, "invalid_custom_host", format!("Invalid custom host: {why}")),
            InvalidHeader(how) => (400, "invalid_header", format!("Invalid header: {how}")),
            InvalidProvider(name) => {
                (400, "invalid_provider", format!("Invalid provider passed: '{name}' is not a known provider."))
            }
            InvalidQuery(how) => (400, "invalid_query", format!("Invalid query: {how}")),
            MethodNotAllowed(allow) => (405, "method_not_allowed", format!("Method not allowed; this route takes {allow}.")),
            MissingCredential(how) => (401, "missing_provider_key", how.clone()),
            MissingProvider => (400, "missing_provider", "Either x-portkey-config or x-portkey-provider is required.".to_owned()),
            NoTarget(path) => {
                (400, "no_target", format!("No target selectable: no condition of {path} holds, and it has no default."))
            }
            NotConfigured => (
                503,
                "not_configured",
                "This gateway has no key yet. Set one with: npx wrangler secret put GATEWAY_ADMIN_KEY".to_owned(),
            ),
            NotFound => (404, "not_found", "Not Found".to_owned()),
            StoreUnavailable(_) => (503, "store_unavailable", "The store could not be reached; try again.".to_owned()),
            UnknownRecord(code, id) => (404, *code, format!("Nothing is stored under '{id}'.")),
            Unauthorized => (
                401,
                "invalid_api_key",
                "Missing or unknown gateway key: send it as x-portkey-api-key or as a bearer token.".to_owned(),
            ),
            UnsupportedOperation(what) => (400, "unsupported_operation", what.clone()),
            UpstreamMalformed(why) => (502, "upstream_malformed", why.clone()),
            Unsupported(what) => (501, "not_supported", format!("Not supported: {what}")),
        };
        Public { status, code, kind: openai_type(status), message }
    }

    /// The body of protocol §2.11: the peer's shape and OpenAI's in one document.
    pub fn body(&self) -> String {
        let public = self.public();
        let mut body = json!({
            "status": "failure",
            "message": public.message,
            "error": {"message": public.message, "type": public.kind, "param": null, "code": public.code},
        });
        if let (GatewayError::InvalidConfig(problems), Some(fields)) = (self, body.as_object_mut()) {
            fields.insert("errors".into(), problems.iter().map(Problem::as_listed).collect());
        }
        if let (GatewayError::NotFound, Some(fields)) = (self, body.as_object_mut()) {
            fields.insert("ok".into(), false.into());
        }
        body.to_string()
    }

    /// Headers that the status calls for, besides the content type.
    pub fn headers(&self) -> Headers {
        match self {
            GatewayError::MethodNotAllowed(allow) => [("allow", *allow)].into_iter().collect(),
            GatewayError::Internal(_) => [("x-portkey-gateway-exception", "true")].into_iter().collect(),
            GatewayError::Unauthorized => [("www-authenticate", "Bearer")].into_iter().collect(),
            _ => Headers::default(),
        }
    }
}

/// OpenAI's word for the class of a status (conventions, error rules).
pub fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        404 => "not_found_error",
        408 => "timeout_error",
        409 => "conflict_error",
        429 => "rate_limit_error",
        424 | 500.. => "server_error",
        _ => "invalid_request_error",
    }
}

impl Problem {
    /// The form in `errors[]`: `path: strategy,mode, message: …` (protocol §2.11).
    fn as_listed(&self) -> serde_json::Value {
        let commas = self.path.replace(['.', '['], ",").replace(']', "");
        format!("path: {commas}, message: {}", self.message).into()
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_reads_in_both_shapes() {
        let problem = |path: &str, message: &str| Problem { path: path.into(), message: message.into() };
        let error =
            GatewayError::InvalidConfig(vec![problem("strategy.mode", "unknown"), problem("targets[1].weight", "negative")]);
        let body: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(body["status"], "failure");
        assert_eq!(body["error"]["code"], "invalid_config");
        assert_eq!(body["message"], body["error"]["message"]);
        assert_eq!(body["errors"], json!(["path: strategy,mode, message: unknown", "path: targets,1,weight, message: negative"]));
    }

    #[test]
    fn internals_stay_inside() {
        for error in [GatewayError::Internal("secret".into()), GatewayError::StoreUnavailable("secret".into())] {
            assert!(!error.body().contains("secret"));
        }
    }
}
