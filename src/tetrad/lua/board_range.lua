#!lua flags=no-writes
-- The rows from one position to another, in rank order.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members
-- ARGV[1] config   ARGV[2] ranking   ARGV[3] first position, from 0   ARGV[4] last position
-- returns {position of the first row, its rank, {head .. member, score, ...}, {head .. info, ...}} | nil | another config
-- replay: safe, because it only reads
-- @include board_rows
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
return rows(KEYS[2], KEYS[3], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]))
