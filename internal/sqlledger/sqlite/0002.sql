-- Bailiwick's ledger, version 2: the log is in it too.
CREATE TABLE bailiwick_log (
  name BLOB NOT NULL PRIMARY KEY,
  data BLOB NOT NULL
) STRICT;
UPDATE bailiwick_meta SET version = 2;
