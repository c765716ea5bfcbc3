-- Charges what a node has granted already, and where asked decides one request more: on all of the
-- rates or on none.
--
-- KEYS: epoch, floor, then the rates
-- ARGV: identity of the server, "1" to decide or "0", then of each rate: interval_ns, tolerance_ns,
--       how many were granted, and the penalty as the node knows it: barred_until_ms, strikes,
--       struck_at_ms
-- Answers a word, the floor, this server's clock, the rate that refused, the wait, and all states.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return { 'epoch', 0, 0, 0, 0 }
end

local now_ms = clock_ms()
local word, refused, wait_ms = 'ok', 0, 0
local states, before = {}, {}
for place = 3, #KEYS do
  local at = 3 + 6 * (place - 3)
  local interval_ns, tolerance_ns = tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  local state = parse_state(redis.call('GET', KEYS[place]))
  local barred, struck = tonumber(ARGV[at + 3]), tonumber(ARGV[at + 5])
  if struck > state.struck or (struck == state.struck and barred > state.barred) then
    state.barred, state.strikes, state.struck = barred, tonumber(ARGV[at + 4]), struck
  end
  local granted = tonumber(ARGV[at + 2])
  if granted > 0 then
    advance(state, now_ms, interval_ns, granted)
  end
  states[place] = state
  if ARGV[2] == '1' and word == 'ok' then
    before[place] = { state.ms, state.ns }
    local wait = decide(state, now_ms, interval_ns, tolerance_ns)
    if wait then
      word, refused, wait_ms = 'limited', place - 3, wait
    end
  end
end

local answer = { word, 0, now_ms, refused, wait_ms }
for place = 3, #KEYS do
  local state = states[place]
  if word == 'limited' and before[place] then
    -- None is charged when one refuses.
    state.ms, state.ns = before[place][1], before[place][2]
  end
  keep_state(KEYS[place], state, now_ms)
  answer[#answer + 1] = print_state(state)
end
answer[2] = tonumber(redis.call('GET', KEYS[2]) or '0')
return answer
