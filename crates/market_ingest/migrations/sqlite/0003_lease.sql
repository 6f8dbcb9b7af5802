-- Who may ingest: one producer a tenant at a time. The epoch counts changes of the holder; no older one may write.
CREATE TABLE market_ingest_lease (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    holder     TEXT    NOT NULL,
    epoch      INTEGER NOT NULL,
    expires_at TEXT    NOT NULL
) STRICT;
