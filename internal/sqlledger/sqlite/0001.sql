-- Bailiwick's ledger, version 1.
CREATE TABLE bailiwick_meta (
  format TEXT NOT NULL,
  version INTEGER NOT NULL
) STRICT;
CREATE TABLE bailiwick_change (
  id BLOB NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE bailiwick_record (
  no INTEGER PRIMARY KEY,
  kind BLOB NOT NULL,
  id BLOB NOT NULL,
  version INTEGER NOT NULL,
  keys BLOB NOT NULL,
  bytes BLOB NOT NULL,
  UNIQUE (kind, id)
) STRICT;
CREATE TABLE bailiwick_key (
  kind BLOB NOT NULL,
  key BLOB NOT NULL,
  record INTEGER NOT NULL,
  uniq INTEGER NOT NULL,
  PRIMARY KEY (kind, key, record)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX bailiwick_key_unique ON bailiwick_key (kind, key) WHERE uniq = 1;
CREATE TABLE bailiwick_event (
  seq INTEGER PRIMARY KEY,
  id BLOB NOT NULL UNIQUE,
  mark INTEGER,
  bytes BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX bailiwick_event_mark ON bailiwick_event (mark) WHERE mark IS NOT NULL;
CREATE INDEX bailiwick_event_pending ON bailiwick_event (seq) WHERE mark IS NULL;
INSERT INTO bailiwick_meta (format, version) VALUES ('bailiwick ledger', 1);
