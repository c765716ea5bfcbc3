-- The generic cell rate algorithm, step for step as `edgeward_core::limit::gcra` decides it.
--
-- A limiter's state is "<arrival_ms>:<arrival_ns>:<barred_until_ms>:<strikes>:<struck_at_ms>", moments
-- as epoch milliseconds of this server, the arrival with nanoseconds beside: a double holds either
-- exactly, and the distance between two moments of one limiter, but no epoch nanoseconds.
local MAX_PENALTY_MS, DECAY_MS = 60000, 60000

local function parse_state(raw)
  if not raw then
    return { ms = 0, ns = 0, barred = 0, strikes = 0, struck = 0 }
  end
  local ms, ns, barred, strikes, struck = string.match(raw, '^(%d+):(%d+):(%d+):(%d+):(%d+)$')
  if not ms then
    error('a rate state cannot be read')
  end
  return {
    ms = tonumber(ms), ns = tonumber(ns), barred = tonumber(barred),
    strikes = tonumber(strikes), struck = tonumber(struck),
  }
end

local function print_state(state)
  return string.format('%.0f:%.0f:%.0f:%.0f:%.0f',
    state.ms, state.ns, state.barred, state.strikes, state.struck)
end

-- Moves the arrival on by one interval for each of `count`, whatever the tolerance.
local function advance(state, now_ms, interval_ns, count)
  local lead_ns = math.max((state.ms - now_ms) * 1e6 + state.ns, 0) + interval_ns * count
  local whole_ms = math.floor(lead_ns / 1e6)
  state.ms, state.ns = now_ms + whole_ms, lead_ns - whole_ms * 1e6
end

-- Nil when it passes, and then the state is charged; else the wait in milliseconds.
local function decide(state, now_ms, interval_ns, tolerance_ns)
  local lead_ns = math.max((state.ms - now_ms) * 1e6 + state.ns, 0)
  local over_ns = math.max(lead_ns + interval_ns - tolerance_ns, 0)
  if over_ns == 0 and now_ms >= state.barred then
    if now_ms - state.struck >= DECAY_MS then
      state.strikes = 0
    end
    advance(state, now_ms, interval_ns, 1)
    return nil
  end
  local plain_ms = math.max(math.ceil(over_ns / 1e6), math.ceil(interval_ns / 1e6), 1)
  state.strikes = now_ms < state.barred and state.strikes + 1 or 1
  local wait_ms = math.min(plain_ms * 2 ^ math.min(state.strikes - 1, 16),
    math.max(MAX_PENALTY_MS, plain_ms))
  state.barred, state.struck = now_ms + wait_ms, now_ms
  return wait_ms
end

-- How long until the state is as good as none, in whole milliseconds and at least one.
local function life_ms(state, now_ms)
  local struck_until = state.struck > 0 and state.struck + DECAY_MS or 0
  return math.max(state.ms + 1, state.barred, struck_until) - now_ms
end

local function keep_state(key, state, now_ms)
  local life = string.format('%.0f', math.max(life_ms(state, now_ms), 1))
  redis.call('SET', key, print_state(state), 'PX', life)
end
