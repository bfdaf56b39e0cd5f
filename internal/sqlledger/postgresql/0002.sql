-- Bailiwick's ledger, version 2: the log is in it too.
CREATE TABLE log (
  name bytea PRIMARY KEY,
  data bytea NOT NULL
);
UPDATE meta SET version = 2;
