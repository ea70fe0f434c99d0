-- The state of all limits of one key is one string, an entry each: "name=last us/number/scale;". For GCRA the number
-- is the debt, in units of 1/scale of a permit (scale: the period in ticks, so that rate units are paid off a
-- tick); for a fixed window it is the count and the scale is the number of the window. All are whole numbers
-- below 2^53: no float ever decides.
local function limit_state(key)
  local kept = {}
  for name, last, number, scale in string.gmatch(redis.call("GET", key) or "", "([^=;]+)=(%d+)/(%d+)/(%d+);") do
    kept[name] = {tonumber(last), tonumber(number), tonumber(scale)}
  end
  return kept
end

-- GCRA: what is owed now. A clock that stepped back pays nothing off, and is believed once it is further back
-- than the bucket takes to drain; so nobody is locked out for longer than twice that.
local function gcra(limit, before, now)
  if not before then
    return 0, now
  end
  local last, debt, scale = before[1], before[2], before[3]
  if scale ~= limit.period then -- the limit has changed: the debt stays, as far as the burst goes
    debt = math.ceil(debt / scale * limit.period)
  end
  debt = math.min(debt, limit.burst * limit.period)
  local drained = math.ceil(debt / limit.rate) -- in ticks
  if last > now then
    local drain_us = math.ceil(limit.burst * limit.period / limit.rate) * limit.tick
    return debt, last - now > drain_us and now or last
  end
  local elapsed = math.floor(now / limit.tick) - math.floor(last / limit.tick)
  return elapsed >= drained and 0 or debt - elapsed * limit.rate, now
end

-- A fixed window, aligned to the epoch: what was counted in it. The counts of another window are nobody's business,
-- unless the clock stepped back by less than a window.
local function fixed(limit, before, now)
  local window = math.floor(now / limit.period)
  if before and before[3] - window >= 0 and before[3] - window <= 1 then
    return before[2], before[3]
  end
  return 0, window
end

-- Decide `cost` by the limits in ARGV[2...], five arguments each: name ("g..." or "f..."), rate, period, burst, tick.
-- For GCRA `rate` permits come every `period` ticks of `tick` us, for a fixed window every `period` us.
-- Returns the reply {allowed, remaining, retry_us (-1 never), reset_us, ...}, the entries to store and for how long (us);
-- entries that must be stored although nothing was charged are told by `correct`.
local function limit_decide(now, cost)
  local kept, limits, allowed, correct = limit_state(KEYS[1]), {}, 1, false
  for i = 2, #ARGV, 5 do
    local limit = {name = ARGV[i], rate = tonumber(ARGV[i + 1]), period = tonumber(ARGV[i + 2]),
      burst = tonumber(ARGV[i + 3]), tick = tonumber(ARGV[i + 4])}
    local before = kept[limit.name]
    limit.gcra = string.sub(limit.name, 1, 1) == "g"
    if limit.gcra then
      limit.number, limit.last = gcra(limit, before, now)
      limit.unit, limit.scale = limit.period, limit.period
      correct = correct or (before and limit.last < before[1])
    else
      limit.number, limit.scale = fixed(limit, before, now)
      limit.unit, limit.last = 1, now
    end
    limit.over = limit.number + cost * limit.unit - limit.burst * limit.unit
    if limit.over > 0 then
      allowed = 0
    end
    limits[#limits + 1] = limit
  end

  local reply, entries, longest = {allowed}, {}, 0
  for _, limit in ipairs(limits) do
    local number = limit.number + (allowed == 1 and cost * limit.unit or 0)
    local ahead, retry, reset = math.max(limit.last - now, 0), 0, 0
    if limit.gcra then
      reset = number > 0 and math.ceil(number / limit.rate) * limit.tick + ahead or 0
      retry = math.ceil(limit.over / limit.rate) * limit.tick + ahead
    else
      retry = (limit.scale + 1) * limit.period - now
      reset = number > 0 and retry or 0
    end
    if limit.over <= 0 then
      retry = 0
    elseif cost > limit.burst then
      retry = -1
    end
    longest = math.max(longest, reset)
    reply[#reply + 1] = math.floor((limit.burst * limit.unit - number) / limit.unit)
    reply[#reply + 1] = retry
    reply[#reply + 1] = reset
    entries[#entries + 1] = string.format("%s=%.0f/%.0f/%.0f;", limit.name, limit.last, number, limit.scale)
    kept[limit.name] = nil
  end
  for name, other in pairs(kept) do -- of a release that has other limits and runs beside this one
    entries[#entries + 1] = string.format("%s=%.0f/%.0f/%.0f;", name, other[1], other[2], other[3])
    longest = math.max(longest, redis.call("PTTL", KEYS[1]) * 1000)
    if #entries == 32 then
      break
    end
  end
  return reply, table.concat(entries), longest, correct
end
