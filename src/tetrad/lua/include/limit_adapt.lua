-- The way of the first hit of a key, and of hits whose limits are not those of the last one.

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

-- The state with an entry for each limit of the call, and whether some of them had none and took over a debt: the
-- most that is owed by an entry of limits which the call does not have. Those entries stay, at most 16 of them: the
-- limits may have been replaced, but they may also be those of a release that is running beside this one.
local function limit_adapt(old, numbers, now)
  local state, place, mine, owed, carried = {}, {}, {}, 0, false
  for at = 1, #old, 5 do
    place[old[at]] = at
  end
  for i = 2, #numbers, 5 do
    mine[i], place[numbers[i]] = place[numbers[i]], nil
  end
  for at = 1, #old, 5 do
    if place[old[at]] then
      owed = math.max(owed, limit_owed(old, at, now))
    end
  end
  for i = 2, #numbers, 5 do
    local at, period, last, debt = mine[i], numbers[i + 2], now, 0
    if at then
      last, debt = old[at + 1], old[at + 2]
    elseif owed > 0 then
      debt, carried = math.ceil(owed * period), true
    end
    state[i - 1], state[i], state[i + 1], state[i + 2], state[i + 3] = numbers[i], last, debt, period, now
  end
  local most = #state + 16 * 5
  for at = 1, #old, 5 do
    if place[old[at]] and #state < most then
      for n = at, at + 4 do
        state[#state + 1] = old[n]
      end
    end
  end
  return state, carried
end
