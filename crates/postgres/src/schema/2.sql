-- Where a node remembers nonces: the id of the store that it shares, or none when it does so by itself.

ALTER TABLE @schema@.nodes ADD COLUMN store text;

-- Which sessions were ended since a moment.

CREATE INDEX bus_events_sessions_ended ON @schema@.bus_events (occurred_at)
    WHERE type = 'agent_session_ended';

-- Tells a line of the log from another one that has got its id: what a restore or a failover has lost
-- gives its ids to other changes.

ALTER TABLE @schema@.changes ADD COLUMN mark uuid NOT NULL DEFAULT gen_random_uuid();

-- What an operator has written down of an agent, and who that was, is not for the agent or its owner.

REVOKE SELECT (payload) ON @schema@.bus_events FROM edgeward_agent;

-- Whether what the claims' token was given for holds still: the token itself is good until it expires.

CREATE FUNCTION @schema@.is_current() RETURNS boolean
    LANGUAGE sql STABLE SET search_path = ''
AS $function$
    SELECT EXISTS (
        SELECT FROM @schema@.agent_devices AS device, @schema@.claims() AS claims
        WHERE device.id = @schema@.agent_id() AND device.status = 'active'
              AND jsonb_typeof(claims -> 'epoch') = 'number'
              AND claims ->> 'epoch' = device.epoch::text)
$function$;

REVOKE ALL ON FUNCTION @schema@.is_current() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION @schema@.is_current() TO edgeward_agent;
