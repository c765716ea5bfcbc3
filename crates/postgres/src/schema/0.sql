-- What every run begins with: roles, the schema and the list of versions. Each statement does
-- nothing where its work is done. Roles belong to the whole server: another database of it may make
-- them at the same moment.

DO $edgeward$
DECLARE
    wanted record;
    may_set boolean;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('edgeward_migrate', 'LOGIN'),
            ('edgeward_edge', 'LOGIN'),
            ('edgeward_agent', 'NOLOGIN')
        ) AS roles (name, login)
    LOOP
        IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name) THEN
            BEGIN
                EXECUTE format(
                    'CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS',
                    wanted.name, wanted.login);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;

    -- Whoever runs this acts as the owner below; a superuser may in any case.
    IF current_user <> 'edgeward_migrate' THEN
        IF current_setting('server_version_num')::integer >= 160000 THEN
            may_set := pg_catalog.pg_has_role(current_user, 'edgeward_migrate', 'SET');
        ELSE
            may_set := pg_catalog.pg_has_role(current_user, 'edgeward_migrate', 'MEMBER');
        END IF;
        IF NOT may_set THEN
            EXECUTE format('GRANT edgeward_migrate TO %I', current_user);
        END IF;
    END IF;

    -- PostgREST, as Supabase runs it, logs in as this one and becomes the role of a token.
    IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'authenticator')
       AND NOT pg_catalog.pg_has_role('authenticator', 'edgeward_agent', 'MEMBER') THEN
        BEGIN
            GRANT edgeward_agent TO authenticator;
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;

    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = @name@) THEN
        CREATE SCHEMA @schema@ AUTHORIZATION edgeward_migrate;
    END IF;
END
$edgeward$;

SET LOCAL ROLE edgeward_migrate;

DO $edgeward$
BEGIN
    IF to_regclass(@migrations@) IS NULL THEN
        REVOKE ALL ON SCHEMA @schema@ FROM PUBLIC;
        GRANT USAGE ON SCHEMA @schema@ TO edgeward_edge, edgeward_agent;
        CREATE TABLE @schema@.migrations (
            version       integer        NOT NULL PRIMARY KEY CHECK (version > 0),
            name          text           NOT NULL,
            -- The oldest version of these tables that a program may know and still use them.
            least_version integer        NOT NULL CHECK (least_version > 0),
            applied_at    timestamptz(3) NOT NULL DEFAULT clock_timestamp()
        );
        ALTER TABLE @schema@.migrations ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY migrate ON @schema@.migrations
            FOR ALL TO edgeward_migrate USING (true) WITH CHECK (true);
        CREATE POLICY edge_select ON @schema@.migrations
            FOR SELECT TO edgeward_edge USING (true);
        GRANT SELECT ON @schema@.migrations TO edgeward_edge;
    END IF;
    IF (SELECT max(least_version) FROM @schema@.migrations) > @newest@ THEN
        RAISE EXCEPTION USING
            ERRCODE = 'EW001',
            MESSAGE = format(
                'these tables were written by a newer version of edgeward: they need version %s, this one knows @newest@; use the newer version',
                (SELECT max(least_version) FROM @schema@.migrations));
    END IF;
END
$edgeward$;
