-- The state of all limits of a key is one string: "1", the format, and an entry of five doubles for each limit, all of
-- them whole numbers: id (of the limit, negative for a fixed window), last (us: when the entry was brought up to date),
-- debt (what was owed then), period (what a permit costs) and free (us: when nothing is owed any more).
-- In a script it is one flat list; the entries of the call's limits come first, in their order.
local function limit_state(key)
  local text = redis.call("GET", key)
  if not text then
    return {}
  end
  local count = (#text - 1) / 8
  if count % 5 ~= 0 or string.sub(text, 1, 1) ~= "1" then
    error({err = "WRONGTYPE the value is not the state of a limiter"})
  end
  local state = {struct.unpack("<" .. string.rep("d", count), text, 2)}
  state[#state] = nil -- where unpack stopped
  for at = 1, count, 5 do
    local id, last, debt, period, free = unpack(state, at, at + 4)
    if not (id < 2^53 and last >= 0 and debt >= 0 and period >= 1 and free < 2^53) then -- nor so if it is no number
      error({err = "WRONGTYPE the state of a limiter is damaged"})
    end
  end
  return state
end

local function limit_text(state)
  return "1" .. struct.pack("<" .. string.rep("d", #state), unpack(state))
end
