-- Every symbol that was ever seen, one a line: what a gap of all symbols stands for.

CREATE TABLE market_ingest_symbols (
    tenant  TEXT NOT NULL PRIMARY KEY,
    symbols TEXT NOT NULL
) STRICT;
