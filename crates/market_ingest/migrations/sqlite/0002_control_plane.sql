-- What operators ask for, what came of it, and the per-asset table. Written by any program that speaks SQL:
-- triggers count every hold that is placed, rewritten or released.

CREATE TABLE market_ingest_control (
    tenant     TEXT    NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE market_ingest_hold (
    tenant TEXT NOT NULL DEFAULT '',
    id     TEXT NOT NULL,
    scope  TEXT NOT NULL,
    reason TEXT,
    actor  TEXT,
    since  TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    until  TEXT,
    PRIMARY KEY (tenant, id)
) STRICT;

-- Plain statements without a conflict clause of their own: under INSERT OR REPLACE that clause would become REPLACE
-- and begin to count anew.
CREATE TRIGGER market_ingest_hold_placed AFTER INSERT ON market_ingest_hold BEGIN
    INSERT INTO market_ingest_control (tenant)
        SELECT NEW.tenant WHERE NOT EXISTS (SELECT 1 FROM market_ingest_control WHERE tenant = NEW.tenant);
    UPDATE market_ingest_control SET generation = generation + 1 WHERE tenant = NEW.tenant;
END;

CREATE TRIGGER market_ingest_hold_rewritten AFTER UPDATE ON market_ingest_hold BEGIN
    INSERT INTO market_ingest_control (tenant)
        SELECT NEW.tenant WHERE NOT EXISTS (SELECT 1 FROM market_ingest_control WHERE tenant = NEW.tenant);
    UPDATE market_ingest_control SET generation = generation + 1 WHERE tenant IN (OLD.tenant, NEW.tenant);
END;

CREATE TRIGGER market_ingest_hold_released AFTER DELETE ON market_ingest_hold BEGIN
    INSERT INTO market_ingest_control (tenant)
        SELECT OLD.tenant WHERE NOT EXISTS (SELECT 1 FROM market_ingest_control WHERE tenant = OLD.tenant);
    UPDATE market_ingest_control SET generation = generation + 1 WHERE tenant = OLD.tenant;
END;

CREATE TABLE market_ingest_history (
    tenant           TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    scope            TEXT    NOT NULL,
    source           TEXT    NOT NULL,
    reason           TEXT,
    actor            TEXT,
    paused_at        TEXT    NOT NULL,
    effective_at     TEXT,
    resumed_at       TEXT,
    duration_s       REAL,
    messages_drained INTEGER NOT NULL,
    gap_ids          TEXT    NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT;

-- Times here are in the form of datetime('now'), which operators' statements write and compare with.
CREATE TABLE IF NOT EXISTS data_ingest_state (
    canonical_symbol TEXT    NOT NULL,
    timeframe        TEXT    NOT NULL,
    status           TEXT,
    pause_fetch      BOOLEAN NOT NULL DEFAULT false CHECK (pause_fetch IN (0, 1)),
    notes            TEXT,
    updated_at       TEXT    DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    last_bar_ts_utc  TEXT,
    PRIMARY KEY (canonical_symbol, timeframe)
);

CREATE INDEX IF NOT EXISTS idx_data_ingest_state_pause_fetch
    ON data_ingest_state (pause_fetch)
    WHERE pause_fetch = true;

-- An operator's change and a change of status show in updated_at; a newer bar alone does not.
CREATE TRIGGER data_ingest_state_changed AFTER UPDATE ON data_ingest_state
    WHEN NEW.updated_at IS OLD.updated_at
        AND (NEW.status IS NOT OLD.status OR NEW.pause_fetch IS NOT OLD.pause_fetch OR NEW.notes IS NOT OLD.notes)
BEGIN
    UPDATE data_ingest_state SET updated_at = strftime('%Y-%m-%d %H:%M:%f', 'now')
        WHERE canonical_symbol = NEW.canonical_symbol AND timeframe = NEW.timeframe;
END;
