-- Gives a bucket the epoch of the server that it lies on, and a floor above all that may be forgotten.
--
-- KEYS: epoch, floor, furthest clock seen, widest settings
-- ARGV: identity of the server, the highest floor that the caller knows, what the clock of the bucket's last
--       server shows now as far as the caller knows, ms that a floor lies above a clock, what a bucket
--       without an epoch means: "loss", or "new" for one that was never used here, a floor that holds
--       whatever the epoch says, and "1" when the caller has seen a loss: another node, which knows less,
--       may have renewed the epoch before. 0 for none.
-- Answers the floor, 0 for none, 1 for a loss, else 0, and the widest ahead and lag together, in ms.
local epoch = redis.call('GET', KEYS[1])
local stored = tonumber(redis.call('GET', KEYS[2]) or '0')
local seen = tonumber(redis.call('GET', KEYS[3]) or '0')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
-- what others have granted with wider settings is forgotten with the rest
local ahead, lag = string.match(redis.call('GET', KEYS[4]) or '', '^%d+:(%d+):(%d+)$')
local margin = tonumber(ahead or 0) + tonumber(lag or 0)
local above = math.max(tonumber(ARGV[4]), margin + 500)
local renewed = epoch ~= ARGV[1]
local lost = ARGV[7] == '1'
  or (renewed and (epoch or stored > 0 or seen > 0 or ARGV[5] ~= 'new'))
local floor = math.max(stored, tonumber(ARGV[6]))
if renewed or lost then
  floor = math.max(floor, tonumber(ARGV[2]))
end
if lost then
  -- a server that is used is no further off than 10 s, whatever a node makes of it
  local last = math.min(tonumber(ARGV[3]), now + 10000 + above)
  floor = math.max(floor, math.max(now, seen, last) + above)
end
-- nonces expire by this clock: when it has been further, some are gone whose time has not come
if now + 1000 < seen then
  floor = math.max(floor, seen + above)
end
if floor > stored then
  redis.call('SET', KEYS[2], string.format('%.0f', floor))
end
if now > seen then
  redis.call('SET', KEYS[3], string.format('%.0f', now))
end
if renewed then
  redis.call('SET', KEYS[1], ARGV[1])
end
return { floor, lost and 1 or 0, margin }
