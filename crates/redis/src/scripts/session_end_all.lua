-- KEYS: index of the agent's sessions; the keys that it names lie in the same slot
-- ARGV: channel, message without the session's hash
-- Answers the keys of the sessions that were there.
local ended = {}
for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  if redis.call('DEL', key) == 1 then
    ended[#ended + 1] = key
    redis.pcall('PUBLISH', ARGV[1], ARGV[2] .. string.match(key, '[^:]*$'))
  end
end
redis.call('DEL', KEYS[1])
return ended
