-- Records that could not be stored after all retries, kept for an operator to look at and send again.

CREATE TABLE dead_letter (
  message_id TEXT NOT NULL, -- the queue's id of the message
  position INTEGER NOT NULL, -- of the record in the message
  received_at INTEGER NOT NULL, -- unix milliseconds
  workspace TEXT, -- owner, where the record can be read that far
  call_id TEXT, -- its call, where the record can be read that far
  reason TEXT NOT NULL, -- why it was not stored
  body TEXT NOT NULL, -- the record as it came
  PRIMARY KEY (message_id, position) -- makes a redelivered dead letter the same row
) WITHOUT ROWID;
