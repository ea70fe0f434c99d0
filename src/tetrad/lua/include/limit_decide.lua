-- A limit is a bucket of debt: a permit costs `period` units, each tick of `tick` us pays `rate` units off, and it holds
-- burst * period of them. A fixed window is such a bucket, too: its tick is the window, and one tick pays all off.
-- These are whole numbers below 2^53, so that ceil and floor of a quotient are exact: no float ever decides.
-- @include limit_state
-- @include limit_adapt

-- Decide by ARGV: the cost, and five arguments for each limit: id, rate, period, burst, tick. Returns the reply, the
-- state, and whether it must be stored; `charge` is false for those who only ask.
local function limit_decide(now, charge)
  local floor, ceil, numbers, state, store = math.floor, math.ceil, {unpack(ARGV)}, limit_state(KEYS[1]), false
  for i = 1, #numbers do
    numbers[i] = tonumber(numbers[i])
  end
  for i = 2, #numbers, 5 do
    if state[i - 1] ~= numbers[i] then
      state, store = limit_adapt(state, numbers, now)
      break
    end
  end

  local cost, allowed = numbers[1], 1
  for i = 2, #numbers, 5 do
    local rate, period, burst, tick = numbers[i + 1], numbers[i + 2], numbers[i + 3], numbers[i + 4]
    local last, debt = state[i], math.min(state[i + 1], burst * period)
    if last <= now then
      local ticks = floor(now / tick) - floor(last / tick)
      last, debt = now, ticks < ceil(debt / rate) and debt - ticks * rate or 0
    elseif last - now > ceil(burst * period / rate) * tick then
      last, store = now, true -- the clock stepped far back: believe it, so that nobody waits for two fillings or longer
    end
    state[i], state[i + 1] = last, debt
    if debt > (burst - cost) * period then
      allowed = 0
    end
  end

  local reply, paid = {allowed, 0, 0, 0}, charge and allowed == 1 and cost or 0
  for i = 2, #numbers, 5 do
    local rate, period, burst, tick = numbers[i + 1], numbers[i + 2], numbers[i + 3], numbers[i + 4]
    local at, from, debt, retry, free = (i - 2) / 5 * 3, floor(state[i] / tick), state[i + 1], 0, now
    local over = debt - (burst - cost) * period
    if over > 0 then
      retry = cost > burst and -1 or (from + ceil(over / rate)) * tick - now
    end
    debt = debt + paid * period
    if debt > 0 then
      free = (from + ceil(debt / rate)) * tick
    end
    state[i + 1], state[i + 3] = debt, free
    reply[at + 2], reply[at + 3], reply[at + 4] = floor((burst * period - debt) / period), retry, free - now
  end
  return reply, state, store or paid > 0
end
