-- KEYS: signal of the agent
-- ARGV: how long it is kept in milliseconds, channel, message
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.pcall('PUBLISH', ARGV[2], ARGV[3])
return 1
