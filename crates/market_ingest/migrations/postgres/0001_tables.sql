-- The heartbeat, quotes, what operators ask for, what came of it, and the per-asset table. Written by any program that
-- speaks SQL: triggers count every hold that is placed, rewritten or released, and tell who listens.

CREATE TABLE market_ingest_heartbeat (
    tenant                text        NOT NULL PRIMARY KEY,
    status                text        NOT NULL CHECK (status IN ('running', 'paused')),
    ts                    timestamptz NOT NULL,
    ingest_enabled        boolean     NOT NULL,
    ingest_enabled_source text,
    last_symbol           text,
    document              jsonb       NOT NULL,
    updated_at            timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE live_quotes (
    tenant           text             NOT NULL,
    id               text             NOT NULL,
    symbol           text             NOT NULL,
    source           text             NOT NULL,
    ts               timestamptz      NOT NULL,
    bid              double precision,
    ask              double precision,
    bid_size         double precision NOT NULL,
    ask_size         double precision NOT NULL,
    price            double precision,
    last_trade_price double precision,
    updated_at       timestamptz      NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

CREATE TABLE market_ingest_control (
    tenant     text   NOT NULL PRIMARY KEY,
    generation bigint NOT NULL DEFAULT 0
);

CREATE TABLE market_ingest_hold (
    tenant text        NOT NULL DEFAULT '',
    id     text        NOT NULL,
    scope  text        NOT NULL,
    reason text,
    actor  text,
    since  timestamptz DEFAULT now(),
    until  timestamptz,
    PRIMARY KEY (tenant, id)
);

CREATE FUNCTION market_ingest_hold_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    touched text;
BEGIN
    -- A hold that moves from one tenant to another is released there and placed here.
    FOR touched IN
        SELECT DISTINCT t FROM unnest(ARRAY[OLD.tenant, NEW.tenant]) AS t WHERE t IS NOT NULL ORDER BY t
    LOOP
        INSERT INTO market_ingest_control AS control (tenant, generation) VALUES (touched, 1)
            ON CONFLICT (tenant) DO UPDATE SET generation = control.generation + 1;
        PERFORM pg_notify('market_ingest_control', touched);
    END LOOP;
    RETURN NULL;
END;
$$;

CREATE TRIGGER market_ingest_hold_changed AFTER INSERT OR UPDATE OR DELETE ON market_ingest_hold
    FOR EACH ROW EXECUTE FUNCTION market_ingest_hold_changed();

CREATE TABLE market_ingest_history (
    tenant           text        NOT NULL,
    id               text        NOT NULL,
    scope            text        NOT NULL,
    source           text        NOT NULL,
    reason           text,
    actor            text,
    paused_at        timestamptz NOT NULL,
    effective_at     timestamptz,
    resumed_at       timestamptz,
    duration_s       double precision,
    messages_drained bigint      NOT NULL,
    gap_ids          jsonb       NOT NULL,
    PRIMARY KEY (tenant, id)
);

-- A database may have this one from elsewhere, of before it could pause.
CREATE TABLE IF NOT EXISTS data_ingest_state (
    canonical_symbol text        NOT NULL,
    timeframe        text        NOT NULL,
    status           text,
    pause_fetch      boolean     NOT NULL DEFAULT false,
    notes            text,
    updated_at       timestamptz DEFAULT now(),
    last_bar_ts_utc  timestamptz,
    PRIMARY KEY (canonical_symbol, timeframe)
);

ALTER TABLE data_ingest_state
    ADD COLUMN IF NOT EXISTS pause_fetch boolean NOT NULL DEFAULT false;

CREATE INDEX IF NOT EXISTS idx_data_ingest_state_pause_fetch
    ON data_ingest_state (pause_fetch)
    WHERE pause_fetch = true;

-- An operator's change and a change of status show in updated_at; a newer bar alone does not.
CREATE FUNCTION data_ingest_state_dated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END;
$$;

CREATE TRIGGER data_ingest_state_dated BEFORE UPDATE ON data_ingest_state
    FOR EACH ROW
    WHEN (NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at
        AND (NEW.status, NEW.pause_fetch, NEW.notes) IS DISTINCT FROM (OLD.status, OLD.pause_fetch, OLD.notes))
    EXECUTE FUNCTION data_ingest_state_dated();

CREATE FUNCTION data_ingest_state_told() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.pause_fetch IS TRUE OR NEW.pause_fetch IS TRUE THEN
        IF (OLD.pause_fetch, OLD.canonical_symbol, OLD.timeframe)
            IS DISTINCT FROM (NEW.pause_fetch, NEW.canonical_symbol, NEW.timeframe)
        THEN
            -- The table belongs to all tenants.
            PERFORM pg_notify('market_ingest_control', '');
        END IF;
    END IF;
    RETURN NULL;
END;
$$;

CREATE TRIGGER data_ingest_state_told AFTER INSERT OR UPDATE OR DELETE ON data_ingest_state
    FOR EACH ROW EXECUTE FUNCTION data_ingest_state_told();
