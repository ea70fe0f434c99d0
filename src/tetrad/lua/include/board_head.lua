-- A board's members stand in a sorted set under "head .. member": the head is the 8-byte number of the change
-- that gave the member its score, so that of equal scores the first to reach it comes first. Scores stand there
-- so that lower is better. The hash of members maps a member to "head .. info".
local HEAD = 8

-- What stands between a member's head and it, or false for a member that is not on the board.
local function stored_of(members, member)
  local stored = redis.call("HGET", members, member)
  if stored then
    return string.sub(stored, 1, HEAD) .. member, string.sub(stored, HEAD + 1)
  end
  return false
end

local function rank_of(order, ranking, mine, score)
  if ranking == "competition" then
    return redis.call("ZCOUNT", order, "-inf", "(" .. score) + 1
  end
  return redis.call("ZRANK", order, mine) + 1
end
