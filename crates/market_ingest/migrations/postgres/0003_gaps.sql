-- What was not received, and what became of it. Times of the market in from_ts and to_ts, of the wall in opened_at.

CREATE TABLE market_ingest_gap (
    tenant    text        NOT NULL,
    id        text        NOT NULL,
    job       text        NOT NULL,
    symbols   jsonb       NOT NULL,
    channels  jsonb       NOT NULL,
    from_ts   timestamptz NOT NULL,
    to_ts     timestamptz,
    cause     text        NOT NULL,
    state     text        NOT NULL,
    rows      bigint      NOT NULL,
    reason    text,
    opened_at timestamptz NOT NULL,
    cursor    jsonb,
    PRIMARY KEY (tenant, id)
);

CREATE INDEX market_ingest_gap_unfinished ON market_ingest_gap (tenant) WHERE state IN ('open', 'filling');
