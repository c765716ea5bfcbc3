-- Which sessions were ended since a moment.

CREATE INDEX bus_events_sessions_ended ON @schema@.bus_events (occurred_at)
    WHERE type = 'agent_session_ended';
