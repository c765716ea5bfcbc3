-- KEYS: session, index of the agent's sessions
-- ARGV: value, exp_ms, max_ms
-- The index scores each session by its end and outlives all of them.
local now_ms = clock_ms()
local ends, most = tonumber(ARGV[2]), tonumber(ARGV[3])
if ends <= now_ms then
  return 0
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', whole(ends - now_ms))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now_ms))
redis.call('ZADD', KEYS[2], whole(ends), KEYS[1])
local life = math.max(redis.call('PTTL', KEYS[2]), most - now_ms)
redis.call('PEXPIRE', KEYS[2], whole(life))
return 1
