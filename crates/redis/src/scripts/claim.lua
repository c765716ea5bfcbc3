-- A nonce and a share of every rate: all of it or nothing.
--
-- KEYS: epoch, floor, clock, nonce, then the session where ARGV[6] is "1", then the rates
-- ARGV: identity of the server, timestamp or "", window_ms, ahead_ms, nonce_ttl_ms, "1" or "0",
--       then interval_ns and tolerance_ns of each rate
-- Answers a word and two numbers that go with it.
local epoch_key, floor_key, clock_key, nonce_key = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local stamp, window_ms, ahead_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('GET', epoch_key) ~= ARGV[1] then
  return { 'epoch', 0, 0 }
end

local now_ms = clock_ms()
local floor = tonumber(redis.call('GET', floor_key) or '0')
local seen = tonumber(redis.call('GET', clock_key) or '0')
-- The furthest seen may be a second old, and a clock set back by less than is tolerated must not let a
-- nonce expire before its time: what nonces outlive the window covers both.
local spare_ms = tonumber(ARGV[5]) - ahead_ms - window_ms - 1000
if now_ms < seen - math.min(1000, math.max(0, spare_ms)) then
  -- The clock went back: nonces may have expired by the time that it showed.
  local raised = seen + ahead_ms + 500
  if raised > floor then
    floor = raised
    redis.call('SET', floor_key, whole(floor))
  end
elseif now_ms >= seen + 1000 then
  redis.call('SET', clock_key, whole(now_ms))
end

if now_ms <= floor then
  return { 'starting', floor, floor - now_ms + 1 }
end
if stamp and (stamp < now_ms - window_ms or stamp > now_ms + ahead_ms or stamp <= floor) then
  return { 'stale', floor, 0 }
end

local first_rate = 5
if ARGV[6] == '1' then
  if redis.call('EXISTS', KEYS[5]) == 0 then
    return { 'gone', 0, 0 }
  end
  first_rate = 6
end
if redis.call('EXISTS', nonce_key) == 1 then
  return { 'replayed', 0, 0 }
end

local states = {}
for place = first_rate, #KEYS do
  local rate = place - first_rate
  local state = parse_state(redis.call('GET', KEYS[place]))
  local wait_ms = decide(state, now_ms, tonumber(ARGV[7 + 2 * rate]), tonumber(ARGV[8 + 2 * rate]))
  if wait_ms then
    keep_state(KEYS[place], state, now_ms)
    return { 'limited', rate, wait_ms }
  end
  states[place] = state
end

-- The nonce first: a server without memory refuses the first write, and then nothing is charged.
redis.call('SET', nonce_key, '', 'PX', ARGV[5])
for place, state in pairs(states) do
  keep_state(KEYS[place], state, now_ms)
end
return { 'ok', 0, 0 }
