-- A nonce and a share of every rate: all of it or nothing.
--
-- KEYS: epoch, floor, clock, widest settings, nonce, then the session where ARGV[6] is "1", then the
--       rates
-- ARGV: identity of the server, timestamp or "", window_ms, ahead_ms, nonce_ttl_ms, "1" or "0",
--       max_lag_ms, then interval_ns and tolerance_ns of each rate
-- Answers a word and two numbers that go with it.
local epoch_key, floor_key, clock_key, nonce_key = KEYS[1], KEYS[2], KEYS[3], KEYS[5]
local stamp, window_ms, ahead_ms = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

if redis.call('GET', epoch_key) ~= ARGV[1] then
  return { 'epoch', 0, 0 }
end

local now_ms = clock_ms()
local floor = tonumber(redis.call('GET', floor_key) or '0')
local seen = tonumber(redis.call('GET', clock_key) or '0')
-- A nonce must outlive the window of whoever judges it, not of whoever claims it.
local widest_ms, widest_ahead_ms, widest_lag_ms =
  string.match(redis.call('GET', KEYS[4]) or '', '^(%d+):(%d+):(%d+)$')
local is_known = widest_ms ~= nil
widest_ms, widest_ahead_ms = tonumber(widest_ms or 0), tonumber(widest_ahead_ms or 0)
widest_lag_ms = tonumber(widest_lag_ms or 0)
local lag_ms = tonumber(ARGV[7])
if window_ms > widest_ms or ahead_ms > widest_ahead_ms or lag_ms > widest_lag_ms then
  local is_wider = is_known and window_ms > widest_ms
  widest_ms, widest_ahead_ms = math.max(window_ms, widest_ms), math.max(ahead_ms, widest_ahead_ms)
  widest_lag_ms = math.max(lag_ms, widest_lag_ms)
  if is_wider then
    -- Nonces that are there may not last so long. The floor first: what fails in between must not leave
    -- the window without it.
    floor = math.max(floor, math.max(now_ms, seen) + widest_ahead_ms + 500)
    redis.call('SET', floor_key, whole(floor))
  end
  redis.call('SET', KEYS[4], whole(widest_ms) .. ':' .. whole(widest_ahead_ms) .. ':'
    .. whole(widest_lag_ms))
end

-- The furthest seen may be a second old, and a clock set back by less than is tolerated must not let a
-- nonce expire before its time: what nonces outlive the window covers both.
local spare_ms = tonumber(ARGV[5]) - widest_ahead_ms - widest_ms - 1000
if now_ms < seen - math.min(1000, math.max(0, spare_ms)) then
  -- The clock went back: nonces may have expired by the time that it showed.
  local raised = seen + widest_ahead_ms + 500
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

local first_rate = 6
if ARGV[6] == '1' then
  if redis.call('EXISTS', KEYS[6]) == 0 then
    return { 'gone', 0, 0 }
  end
  first_rate = 7
end
if redis.call('EXISTS', nonce_key) == 1 then
  return { 'replayed', 0, 0 }
end

local states = {}
for place = first_rate, #KEYS do
  local rate = place - first_rate
  local state = parse_state(redis.call('GET', KEYS[place]))
  local wait_ms = decide(state, now_ms, tonumber(ARGV[8 + 2 * rate]), tonumber(ARGV[9 + 2 * rate]))
  if wait_ms then
    keep_state(KEYS[place], state, now_ms)
    return { 'limited', rate, wait_ms }
  end
  states[place] = state
end

-- The nonce first: a server without memory refuses the first write, and then nothing is charged.
local nonce_life_ms = math.max(tonumber(ARGV[5]), widest_ms + widest_ahead_ms + 1000)
redis.call('SET', nonce_key, '', 'PX', whole(nonce_life_ms))
for place, state in pairs(states) do
  keep_state(KEYS[place], state, now_ms)
end
-- The widest margin, for the floor of a node that sees all of this lost.
return { 'ok', widest_ahead_ms + widest_lag_ms, 0 }
