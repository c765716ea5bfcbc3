-- Ids are uuid, times timestamptz to the millisecond, sealed bytes bytea. In jsonb strings the
-- character U+0000, which jsonb cannot hold, is U+001A '0', and U+001A itself is U+001A '1'.

CREATE TABLE @schema@.agent_devices (
    id            uuid           NOT NULL PRIMARY KEY,
    user_id       text           NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    alias         text,
    platform      text,
    public_key    jsonb,
    status        text           NOT NULL CHECK (status IN ('active', 'blocked', 'retired')),
    epoch         bigint         NOT NULL CHECK (epoch > 0),
    last_seen_at  timestamptz(3),
    -- inet, since an address with a prefix is kept as it was given.
    allowed_cidrs inet[]         NOT NULL DEFAULT '{}',
    scopes        text[]         NOT NULL DEFAULT '{}',
    rate          jsonb,
    legacy        boolean        NOT NULL DEFAULT false,
    metadata      jsonb          NOT NULL DEFAULT '{}',
    created_at    timestamptz(3) NOT NULL
);
CREATE INDEX agent_devices_by_owner ON @schema@.agent_devices (user_id);

CREATE TABLE @schema@.agent_tokens (
    id           bigint         NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    agent_id     uuid           NOT NULL REFERENCES @schema@.agent_devices (id),
    version      bigint         NOT NULL CHECK (version > 0),
    sealed       bytea          NOT NULL,
    fingerprint  text           NOT NULL,
    status       text           NOT NULL
                 CHECK (status IN ('prepared', 'active', 'grace', 'retired', 'compromised')),
    activated_at timestamptz(3),
    last_used_at timestamptz(3),
    grace_until  timestamptz(3),
    expires_at   timestamptz(3) NOT NULL,
    UNIQUE (agent_id, version)
);
CREATE INDEX agent_tokens_by_fingerprint ON @schema@.agent_tokens (fingerprint);
CREATE UNIQUE INDEX agent_tokens_one_active ON @schema@.agent_tokens (agent_id)
    WHERE status = 'active';

CREATE TABLE @schema@.enrollments (
    code_hash         bytea          NOT NULL PRIMARY KEY CHECK (length(code_hash) = 32),
    challenge         text           NOT NULL,
    owner_user_id     text           NOT NULL,
    agent_grant       jsonb          NOT NULL,
    agent_id          uuid           REFERENCES @schema@.agent_devices (id),
    wrong_completions integer        NOT NULL DEFAULT 0,
    used_at           timestamptz(3),
    expires_at        timestamptz(3) NOT NULL
);

CREATE TABLE @schema@.signing_keys (
    kid        text           NOT NULL PRIMARY KEY,
    seq        bigint         NOT NULL GENERATED ALWAYS AS IDENTITY,
    purpose    text           NOT NULL CHECK (purpose IN ('agent', 'identity')),
    alg        text           NOT NULL,
    status     text           NOT NULL
               CHECK (status IN ('next', 'active', 'retiring', 'retired', 'compromised')),
    sealed     bytea          NOT NULL,
    public_jwk jsonb          NOT NULL,
    created_at timestamptz(3) NOT NULL
);

CREATE TABLE @schema@.data_keys (
    id         uuid           NOT NULL PRIMARY KEY,
    seq        bigint         NOT NULL GENERATED ALWAYS AS IDENTITY,
    used_for   text           NOT NULL CHECK (used_for IN ('at_rest', 'fleet')),
    wrapped    bytea          NOT NULL,
    kek        text           NOT NULL,
    created_at timestamptz(3) NOT NULL
);

CREATE TABLE @schema@.nodes (
    name        text           NOT NULL PRIMARY KEY,
    incarnation uuid           NOT NULL,
    shares      boolean        NOT NULL,
    version     text           NOT NULL,
    joined_at   timestamptz(3) NOT NULL,
    beat_at     timestamptz(3) NOT NULL
);

CREATE TABLE @schema@.operators (
    id         uuid           NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    name       text           NOT NULL UNIQUE,
    role       text           NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    token_hash bytea          NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_at timestamptz(3) NOT NULL,
    expires_at timestamptz(3),
    revoked_at timestamptz(3)
);

CREATE TABLE @schema@.policies (
    version    bigint         NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document   jsonb          NOT NULL,
    author     text           NOT NULL,
    reason     text,
    created_at timestamptz(3) NOT NULL
);

CREATE TABLE @schema@.bus_events (
    id            bigint         NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    occurred_at   timestamptz(3) NOT NULL,
    type          text           NOT NULL,
    agent_id      uuid,
    owner_user_id text,
    trace_id      text           NOT NULL,
    node          text           NOT NULL,
    payload       jsonb          NOT NULL
);
CREATE INDEX bus_events_by_agent ON @schema@.bus_events (agent_id, id);
CREATE INDEX bus_events_by_owner ON @schema@.bus_events (owner_user_id, id);

CREATE TABLE @schema@.webhooks (
    id                 uuid           NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
    url                text           NOT NULL,
    sealed             bytea          NOT NULL,
    types              text[]         NOT NULL DEFAULT '{}',
    enabled            boolean        NOT NULL DEFAULT true,
    delivered_event_id bigint         NOT NULL DEFAULT 0,
    created_at         timestamptz(3) NOT NULL
);

-- One row: how far the wall clock got while requests were admitted, what a clean stop left, and
-- which run may write here.
CREATE TABLE @schema@.run_state (
    id       smallint       NOT NULL PRIMARY KEY CHECK (id = 1),
    holder   uuid,
    mark     timestamptz(3),
    snapshot bytea,
    shared   boolean        NOT NULL DEFAULT false
);
INSERT INTO @schema@.run_state (id) VALUES (1);

-- What nodes must hear of, in the order in which it became visible.
CREATE TABLE @schema@.changes (
    id         bigint         NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       text           NOT NULL CHECK (kind IN ('agent', 'keys', 'policy')),
    agent_id   uuid,
    changed_at timestamptz(3) NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'agent') = (agent_id IS NOT NULL))
);
CREATE INDEX changes_by_time ON @schema@.changes (changed_at);

-- Who asks, by the claims that PostgREST sets for one transaction; null for anything that is not
-- exactly what it should be.

CREATE FUNCTION @schema@.claims() RETURNS jsonb
    LANGUAGE plpgsql STABLE SET search_path = ''
AS $function$
DECLARE
    claims jsonb;
BEGIN
    claims := nullif(current_setting('request.jwt.claims', true), '')::jsonb;
    RETURN CASE WHEN jsonb_typeof(claims) = 'object' THEN claims END;
EXCEPTION
    WHEN data_exception OR program_limit_exceeded THEN
        RETURN NULL;
END
$function$;

CREATE FUNCTION @schema@.agent_id() RETURNS uuid
    LANGUAGE sql STABLE SET search_path = ''
AS $function$
    SELECT CASE
        WHEN jsonb_typeof(claims -> 'agent_id') = 'string'
             AND claims ->> 'agent_id' ~ '\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z'
        THEN (claims ->> 'agent_id')::uuid
    END
    FROM @schema@.claims() AS claims
$function$;

CREATE FUNCTION @schema@.owner_user_id() RETURNS text
    LANGUAGE sql STABLE SET search_path = ''
AS $function$
    SELECT CASE
        WHEN jsonb_typeof(claims -> 'owner_user_id') = 'string'
             AND claims ->> 'owner_user_id' ~ '\A[!-+\--~]{1,128}\Z'
        THEN claims ->> 'owner_user_id'
    END
    FROM @schema@.claims() AS claims
$function$;

-- An agent's token names its owner too; only a token that names no agent at all is an owner's own.
CREATE FUNCTION @schema@.acting_owner() RETURNS text
    LANGUAGE sql STABLE SET search_path = ''
AS $function$
    SELECT CASE WHEN NOT claims ? 'agent_id' THEN @schema@.owner_user_id() END
    FROM @schema@.claims() AS claims
$function$;

REVOKE ALL ON FUNCTION
    @schema@.claims(), @schema@.agent_id(), @schema@.owner_user_id(), @schema@.acting_owner()
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION
    @schema@.claims(), @schema@.agent_id(), @schema@.owner_user_id(), @schema@.acting_owner()
    TO edgeward_agent;

-- Nobody sees a row without a policy, not even the owner of the tables.

ALTER TABLE @schema@.agent_devices ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.agent_tokens  ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.enrollments   ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.signing_keys  ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.data_keys     ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.nodes         ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.operators     ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.policies      ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.bus_events    ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.webhooks      ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.run_state     ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE @schema@.changes       ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;

-- A node: the verbs that it needs, and of an update the columns. Nothing of it deletes an agent, a
-- secret, a code, a key or an event, or rewrites one.

GRANT SELECT, INSERT ON
    @schema@.agent_devices, @schema@.agent_tokens, @schema@.enrollments, @schema@.signing_keys,
    @schema@.data_keys, @schema@.bus_events, @schema@.changes, @schema@.nodes
    TO edgeward_edge;
GRANT SELECT ON @schema@.run_state TO edgeward_edge;
GRANT UPDATE (alias, platform, public_key, status, epoch, allowed_cidrs, scopes, legacy, metadata)
    ON @schema@.agent_devices TO edgeward_edge;
GRANT UPDATE (status) ON @schema@.agent_tokens TO edgeward_edge;
GRANT UPDATE (wrong_completions, used_at) ON @schema@.enrollments TO edgeward_edge;
GRANT UPDATE (holder, mark, snapshot, shared) ON @schema@.run_state TO edgeward_edge;
GRANT UPDATE, DELETE ON @schema@.nodes TO edgeward_edge;
GRANT DELETE ON @schema@.changes TO edgeward_edge;

CREATE POLICY edge_select ON @schema@.agent_devices FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.agent_devices FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_update ON @schema@.agent_devices
    FOR UPDATE TO edgeward_edge USING (true) WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.agent_tokens FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.agent_tokens FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_update ON @schema@.agent_tokens
    FOR UPDATE TO edgeward_edge USING (true) WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.enrollments FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.enrollments FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_update ON @schema@.enrollments
    FOR UPDATE TO edgeward_edge USING (true) WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.signing_keys FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.signing_keys FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.data_keys FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.data_keys FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_all ON @schema@.nodes
    FOR ALL TO edgeward_edge USING (true) WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.bus_events FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.bus_events FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.run_state FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_update ON @schema@.run_state
    FOR UPDATE TO edgeward_edge USING (true) WITH CHECK (true);
CREATE POLICY edge_select ON @schema@.changes FOR SELECT TO edgeward_edge USING (true);
CREATE POLICY edge_insert ON @schema@.changes FOR INSERT TO edgeward_edge WITH CHECK (true);
CREATE POLICY edge_delete ON @schema@.changes FOR DELETE TO edgeward_edge USING (true);

-- Whoever comes with claims: an agent sees itself, an owner its agents, and neither what is sealed.
-- Tables that claims have no business in have neither a grant nor a policy for them.

GRANT SELECT (id, user_id, alias, platform, public_key, status, epoch, last_seen_at, allowed_cidrs,
              scopes, rate, legacy, metadata, created_at)
    ON @schema@.agent_devices TO edgeward_agent;
GRANT SELECT (agent_id, version, status, activated_at, last_used_at, grace_until, expires_at)
    ON @schema@.agent_tokens TO edgeward_agent;
GRANT SELECT (id, occurred_at, type, agent_id, owner_user_id, trace_id, payload)
    ON @schema@.bus_events TO edgeward_agent;

CREATE POLICY claims_select ON @schema@.agent_devices FOR SELECT TO edgeward_agent
    USING (id = (SELECT @schema@.agent_id()) OR user_id = (SELECT @schema@.acting_owner()));
-- Those of the devices that the same claims may see.
CREATE POLICY claims_select ON @schema@.agent_tokens FOR SELECT TO edgeward_agent
    USING (EXISTS (SELECT FROM @schema@.agent_devices AS device WHERE device.id = agent_id));
CREATE POLICY claims_select ON @schema@.bus_events FOR SELECT TO edgeward_agent
    USING (agent_id = (SELECT @schema@.agent_id())
           OR owner_user_id = (SELECT @schema@.acting_owner()));
