#!lua flags=no-writes
-- A member's row with its neighbours, in rank order; cut off at the ends of the board.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members
-- ARGV[1] config   ARGV[2] ranking   ARGV[3] member   ARGV[4] neighbours on each side
-- returns {position of the first row, its rank, {head .. member, score, ...}, {head .. info, ...}} | nil | another config
-- replay: safe, because it only reads
-- @include board_head
-- @include board_rows
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
local mine = stored_of(KEYS[3], ARGV[3])
local position = mine and redis.call("ZRANK", KEYS[2], mine)
if not position then
  return nil
end
local radius = tonumber(ARGV[4])
return rows(KEYS[2], KEYS[3], ARGV[2], math.max(position - radius, 0), position + radius)
