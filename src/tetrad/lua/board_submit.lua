#!lua
-- Enter a member's score by the board's policy and say where that puts it. The first write fixes the configuration.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members
-- ARGV[1] config   ARGV[2] ranking   ARGV[3] best | last | sum   ARGV[4] member   ARGV[5] score   [ARGV[6] info]
-- returns {changed, score, rank, score before, rank before} | {score} for a sum that is not finite | another config
-- replay: never, because the second answer would be another one and a sum would grow twice
-- @include board_head
local board, order, members = KEYS[1], KEYS[2], KEYS[3]
local ranking, keep, member, score, info = ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local config = redis.call("HGET", board, "config")
if config and config ~= ARGV[1] then
  return config
end

local mine, old_info = stored_of(members, member)
local old = mine and redis.call("ZSCORE", order, mine)
local old_rank = old and rank_of(order, ranking, mine, old)
local changed, kept = true, true
if old then
  local old_number, number = tonumber(old), tonumber(score)
  if keep == "sum" then
    number = old_number + number
    if number - number ~= 0 then
      return {old} -- infinite; nothing has been changed
    end
    score = string.format("%.17g", number)
  end
  changed = number ~= old_number
  if keep == "best" then
    changed = number < old_number
    kept = changed
  end
end

if not changed then
  if info and kept then
    redis.call("HSET", members, member, string.sub(mine, 1, HEAD) .. info)
  end
  return {0, old, old_rank, old, old_rank}
end
if not config then
  redis.call("HSET", board, "config", ARGV[1])
end
local head = struct.pack(">I8", redis.call("HINCRBY", board, "changes", 1))
if old then
  redis.call("ZREM", order, mine)
end
redis.call("ZADD", order, score, head .. member)
redis.call("HSET", members, member, head .. (info or old_info or ""))
return {1, score, rank_of(order, ranking, head .. member, score), old, old_rank}
