-- The rows from position `start` to `stop` (from 0, both included) in rank order, in one walk: {position of the
-- first, its rank, {head .. member, score, ...}, {head .. info, ...}}; nil when there are none.
local HEAD, BATCH = 8, 4000 -- unpack fails above some 8000 values

local function rows(order, members, ranking, start, stop)
  local flat = redis.call("ZRANGE", order, start, stop, "WITHSCORES")
  if #flat == 0 then
    return nil
  end
  local names = {}
  for i = 1, #flat, 2 do
    names[#names + 1] = string.sub(flat[i], HEAD + 1)
  end
  local infos = redis.call("HMGET", members, unpack(names, 1, math.min(#names, BATCH)))
  for first = BATCH + 1, #names, BATCH do
    local more = redis.call("HMGET", members, unpack(names, first, math.min(#names, first + BATCH - 1)))
    for i = 1, #more do
      infos[#infos + 1] = more[i]
    end
  end
  local rank = start + 1
  if start > 0 and ranking == "competition" then
    rank = redis.call("ZCOUNT", order, "-inf", "(" .. flat[2]) + 1
  end
  return {start + 1, rank, flat, infos}
end
