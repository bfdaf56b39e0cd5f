-- Bailiwick's ledger, version 1. The names are those of the schema that comes first in the search path.
CREATE TABLE meta (
  format text NOT NULL,
  version bigint NOT NULL
);
CREATE TABLE change (
  id bytea PRIMARY KEY
);
CREATE SEQUENCE record_no;
CREATE TABLE record (
  no bigint PRIMARY KEY,
  version bigint NOT NULL,
  kind bytea NOT NULL,
  id bytea NOT NULL,
  keys bytea NOT NULL,
  bytes bytea NOT NULL,
  UNIQUE (kind, id)
) WITH (fillfactor = 80);
CREATE TABLE key (
  record bigint NOT NULL,
  uniq boolean NOT NULL,
  kind bytea NOT NULL,
  key bytea NOT NULL,
  PRIMARY KEY (kind, key, record),
  CONSTRAINT key_unique EXCLUDE USING btree (kind WITH =, key WITH =) WHERE (uniq) DEFERRABLE INITIALLY IMMEDIATE
);
CREATE SEQUENCE event_seq;
CREATE TABLE event (
  seq bigint PRIMARY KEY,
  mark bigint,
  id bytea NOT NULL UNIQUE,
  bytes bytea NOT NULL
);
CREATE UNIQUE INDEX event_mark ON event (mark) WHERE mark IS NOT NULL;
CREATE INDEX event_pending ON event (seq) WHERE mark IS NULL;
INSERT INTO meta (format, version) VALUES ('bailiwick ledger', 1);
