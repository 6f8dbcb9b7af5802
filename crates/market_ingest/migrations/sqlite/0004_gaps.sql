-- What was not received, and what became of it. Times of the market in from_ts and to_ts, of the wall in opened_at.

CREATE TABLE market_ingest_gap (
    tenant    TEXT    NOT NULL,
    id        TEXT    NOT NULL,
    job       TEXT    NOT NULL,
    symbols   TEXT    NOT NULL,
    channels  TEXT    NOT NULL,
    from_ts   TEXT    NOT NULL,
    to_ts     TEXT,
    cause     TEXT    NOT NULL,
    state     TEXT    NOT NULL,
    rows      INTEGER NOT NULL,
    reason    TEXT,
    opened_at TEXT    NOT NULL,
    cursor    TEXT,
    PRIMARY KEY (tenant, id)
) STRICT;

CREATE INDEX market_ingest_gap_unfinished ON market_ingest_gap (tenant) WHERE state IN ('open', 'filling');
