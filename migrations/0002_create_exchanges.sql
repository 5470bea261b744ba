-- What was said: the request and response documents behind a span. Either inline, or a slice of an object.

CREATE TABLE exchange (
  workspace TEXT NOT NULL, -- owner
  record_id TEXT NOT NULL, -- the span it belongs to
  document TEXT, -- JSON text of the exchange, when all of its call are small; else NULL
  object_key TEXT, -- object that holds the documents of a consumer's batch; NULL when inline
  object_offset INTEGER, -- first byte of this one in the object
  object_length INTEGER, -- its bytes
  PRIMARY KEY (workspace, record_id) -- serves the log of a span
) WITHOUT ROWID;
