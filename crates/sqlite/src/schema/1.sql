-- Times are epoch milliseconds. Ids are text in their canonical form. JSON is text.

CREATE TABLE agent_devices (
    id            TEXT    NOT NULL PRIMARY KEY,
    user_id       TEXT    NOT NULL,
    alias         TEXT,
    platform      TEXT,
    public_key    TEXT,
    status        TEXT    NOT NULL CHECK (status IN ('active', 'blocked', 'retired')),
    epoch         INTEGER NOT NULL CHECK (epoch > 0),
    last_seen_at  INTEGER,
    allowed_cidrs TEXT    NOT NULL,
    scopes        TEXT    NOT NULL,
    rate          TEXT,
    legacy        INTEGER NOT NULL DEFAULT 0 CHECK (legacy IN (0, 1)),
    metadata      TEXT    NOT NULL,
    created_at    INTEGER NOT NULL
) STRICT;
CREATE INDEX agent_devices_by_owner ON agent_devices (user_id);

CREATE TABLE agent_tokens (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    agent_id     TEXT    NOT NULL REFERENCES agent_devices (id),
    version      INTEGER NOT NULL CHECK (version > 0),
    sealed       BLOB    NOT NULL,
    fingerprint  TEXT    NOT NULL,
    status       TEXT    NOT NULL
                 CHECK (status IN ('prepared', 'active', 'grace', 'retired', 'compromised')),
    activated_at INTEGER,
    last_used_at INTEGER,
    grace_until  INTEGER,
    expires_at   INTEGER NOT NULL,
    UNIQUE (agent_id, version)
) STRICT;
CREATE INDEX agent_tokens_by_fingerprint ON agent_tokens (fingerprint);
CREATE UNIQUE INDEX agent_tokens_one_active ON agent_tokens (agent_id) WHERE status = 'active';

CREATE TABLE enrollments (
    code_hash         BLOB    NOT NULL PRIMARY KEY CHECK (length(code_hash) = 32),
    challenge         TEXT    NOT NULL,
    owner_user_id     TEXT    NOT NULL,
    agent_grant       TEXT    NOT NULL,
    agent_id          TEXT    REFERENCES agent_devices (id),
    wrong_completions INTEGER NOT NULL DEFAULT 0,
    used_at           INTEGER,
    expires_at        INTEGER NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    kid        TEXT    NOT NULL PRIMARY KEY,
    purpose    TEXT    NOT NULL CHECK (purpose IN ('agent', 'identity')),
    alg        TEXT    NOT NULL,
    status     TEXT    NOT NULL
               CHECK (status IN ('next', 'active', 'retiring', 'retired', 'compromised')),
    sealed     BLOB    NOT NULL,
    public_jwk TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE data_keys (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    wrapped    BLOB    NOT NULL,
    kek        TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE bus_events (
    id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    occurred_at   INTEGER NOT NULL,
    type          TEXT    NOT NULL,
    agent_id      TEXT,
    owner_user_id TEXT,
    trace_id      TEXT    NOT NULL,
    node          TEXT    NOT NULL,
    payload       TEXT    NOT NULL
) STRICT;

-- One row: how far the wall clock got while requests were admitted, and what a clean stop left.
CREATE TABLE run_state (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    mark     INTEGER,
    snapshot BLOB
) STRICT;
INSERT INTO run_state (id) VALUES (1);

PRAGMA application_id = 0x45646757;
PRAGMA user_version = 1;
