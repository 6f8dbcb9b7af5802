CREATE TABLE market_ingest_heartbeat (
    tenant                TEXT    NOT NULL PRIMARY KEY,
    status                TEXT    NOT NULL CHECK (status IN ('running', 'paused')),
    ts                    TEXT    NOT NULL,
    ingest_enabled        INTEGER NOT NULL CHECK (ingest_enabled IN (0, 1)),
    ingest_enabled_source TEXT,
    last_symbol           TEXT,
    document              TEXT    NOT NULL,
    updated_at            TEXT    NOT NULL
);

CREATE TABLE live_quotes (
    tenant           TEXT NOT NULL,
    id               TEXT NOT NULL,
    symbol           TEXT NOT NULL,
    source           TEXT NOT NULL,
    ts               TEXT NOT NULL,
    bid              REAL,
    ask              REAL,
    bid_size         REAL NOT NULL,
    ask_size         REAL NOT NULL,
    price            REAL,
    last_trade_price REAL,
    updated_at       TEXT NOT NULL,
    PRIMARY KEY (tenant, id)
);
