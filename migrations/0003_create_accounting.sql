-- The conservation identity of query-api §4: what was stored and what was lost, exact under redelivery.

CREATE TABLE tally (
  workspace TEXT NOT NULL, -- owner
  stored INTEGER NOT NULL, -- calls ever stored; only calls that were not there yet are added, in their own transaction
  PRIMARY KEY (workspace)
) WITHOUT ROWID;

CREATE TABLE loss (
  workspace TEXT NOT NULL, -- owner of the call that brought the news
  record_id TEXT NOT NULL, -- that call
  lost INTEGER NOT NULL, -- records that a producer had to drop before it
  PRIMARY KEY (workspace, record_id)
) WITHOUT ROWID;
