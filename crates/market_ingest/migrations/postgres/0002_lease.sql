-- Who may ingest: one producer a tenant at a time. The epoch counts changes of the holder; no older one may write.
CREATE TABLE market_ingest_lease (
    tenant     text        NOT NULL PRIMARY KEY,
    holder     text        NOT NULL,
    epoch      bigint      NOT NULL,
    expires_at timestamptz NOT NULL
);
