-- The way of the first hit of a key, and of the first one after its limits have changed.

-- The permits that the entry at `at` still owes: a fraction, near enough to carry them over to other numbers.
local function limit_owed(state, at, now)
  local last, owed, free = state[at + 1], state[at + 2] / state[at + 3], state[at + 4]
  if now >= free then
    return 0
  elseif now <= last or state[at] < 0 then
    return owed
  end
  return owed * (free - now) / (free - last)
end

-- The state with an entry for each limit of the call. A limit goes on with what the entry of its period owes; if there
-- is none, with what is owed by the entries that belong to no limit: the most of them. These stay while they owe
-- anything, at most 16: they may be those of another release that is running beside this one.
local function limit_adapt(old, numbers, now)
  local state, mine, taken, others = {}, {}, {}, 0
  for i = 2, #numbers, 5 do
    for at = 1, #old, 5 do
      if old[at] == numbers[i] and not mine[i] and not taken[at] then
        mine[i], taken[at] = at, true
      end
    end
  end
  for at = 1, #old, 5 do
    others = taken[at] and others or math.max(others, limit_owed(old, at, now))
  end
  for i = 2, #numbers, 5 do
    local at, period, last, debt = mine[i], numbers[i + 2], now, 0
    if at and old[at + 3] == period then
      last, debt = old[at + 1], old[at + 2]
    else
      debt = math.ceil((at and limit_owed(old, at, now) or others) * period)
    end
    state[i - 1], state[i], state[i + 1], state[i + 2], state[i + 3] = numbers[i], last, debt, period, now
  end
  local most = #state + 16 * 5
  for at = 1, #old, 5 do
    if not taken[at] and old[at + 4] > now and #state < most then
      for n = at, at + 4 do
        state[#state + 1] = old[n]
      end
    end
  end
  return state
end
