-- KEYS: session, index of the agent's sessions
-- ARGV: the new end in epoch milliseconds, channel, message
-- Answers the value as it is afterwards, or nothing.
local value = redis.call('GET', KEYS[1])
if not value then
  return false
end
local head, ends, tail, most =
  string.match(value, '^({"v":1,"agent_id":"[%x%-]+","exp_ms":)(%d+)(,"max_ms":(%d+),.*)$')
if not head then
  return value
end
local now_ms = clock_ms()
ends = tonumber(ends)
local extended = math.min(tonumber(ARGV[1]), tonumber(most))
if extended > ends and extended > now_ms then
  value = head .. whole(extended) .. tail
  redis.call('SET', KEYS[1], value, 'PX', whole(extended - now_ms))
  redis.call('ZADD', KEYS[2], whole(extended), KEYS[1])
  -- The change stands also when nobody can be told of it.
  redis.pcall('PUBLISH', ARGV[2], ARGV[3])
end
return value
