-- KEYS: session, index of the agent's sessions
-- ARGV: channel, message
-- Answers how many sessions there were: one or none.
local ended = redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], KEYS[1])
if ended == 1 then
  -- The end stands also when nobody can be told of it.
  redis.pcall('PUBLISH', ARGV[1], ARGV[2])
end
return ended
