-- One row per span: what a call, an upstream try, a cache look-up or a guardrail check says about itself.
-- Rows are inserted once and never changed: a redelivered message inserts nothing.

CREATE TABLE span (
  workspace TEXT NOT NULL, -- owner; no query crosses it
  record_id TEXT NOT NULL, -- our own id, 32 hex digits: unique, and sorting by it sorts by start time
  call_id TEXT NOT NULL, -- record id of the request span of the same call; equal to record_id on that span
  position INTEGER NOT NULL, -- order of recording inside the call: 0 is the request span
  generation INTEGER NOT NULL, -- tally.stored just after the transaction that inserted the row; a list's cursor holds it
  trace_id TEXT NOT NULL, -- as the client gave it, or generated
  otel_trace_id TEXT NOT NULL, -- derived, 32 hex digits
  span_id TEXT NOT NULL, -- as the client gave it, or generated; clients repeat it
  otel_span_id TEXT NOT NULL, -- derived, 16 hex digits
  parent_span_id TEXT, -- span_id of the parent, which may be stored later or never; NULL is a root
  kind TEXT NOT NULL, -- request, attempt, cache, guardrail, external
  name TEXT NOT NULL, -- for people
  start_ms INTEGER NOT NULL, -- unix milliseconds
  end_ms INTEGER NOT NULL, -- unix milliseconds, never before start_ms
  status TEXT NOT NULL, -- ok, error, cancelled
  status_code INTEGER, -- HTTP status; NULL when there was none
  error_type TEXT, -- closed word list (query-api §1); NULL when nothing failed
  error_message TEXT, -- one line for a person
  operation TEXT, -- chat, embeddings, …
  provider TEXT, -- id in the registry
  request_model TEXT, -- asked for
  response_model TEXT, -- answered
  attempt_index INTEGER, -- 0-based over the call; this and the next five on attempts only
  attempt_retry INTEGER, -- 0-based at the target
  attempt_target TEXT, -- path in the config
  attempt_reason TEXT, -- first, retry, fallback, loadbalance, condition, hedge
  attempt_wait_ms INTEGER, -- slept before it, not part of the span's time
  attempt_wait_reason TEXT, -- backoff, retry-after; NULL when nothing was slept
  input_tokens INTEGER, -- all input; NULL is unknown, here and in the next seven; never set on request spans
  output_tokens INTEGER, -- all output
  cache_read_tokens INTEGER, -- part of input
  cache_write_tokens INTEGER, -- part of input
  cache_write_1h_tokens INTEGER, -- part of cache_write
  reasoning_tokens INTEGER, -- part of output
  audio_input_tokens INTEGER, -- part of input
  audio_output_tokens INTEGER, -- part of output
  usage_source TEXT NOT NULL, -- reported, estimated, none
  cost_pico_usd INTEGER, -- 1e-12 US dollars; NULL is unknown; never set on request spans
  time_to_first_byte_ms INTEGER, -- request sent to response headers
  time_to_first_token_ms INTEGER, -- request sent to first streamed token
  stream INTEGER NOT NULL, -- 1 when the answer was a stream
  bytes_in INTEGER NOT NULL, -- request body
  bytes_out INTEGER NOT NULL, -- response body
  cache_status TEXT, -- HIT, MISS, DISABLED, …
  metadata TEXT NOT NULL, -- JSON object of strings, the caller's
  attributes TEXT, -- JSON object by OpenTelemetry name
  events TEXT NOT NULL, -- JSON array of {name, time, attributes}
  PRIMARY KEY (workspace, record_id) -- serves the lists, newest first, and the logs by id
) WITHOUT ROWID;

-- Serves one trace by its id, the spans of the traces on a page, and "is there an older span of this trace?".
CREATE INDEX span_by_trace ON span (workspace, trace_id, record_id);
