#!lua flags=no-writes
-- How many members are on the board, or stand before a given score.
-- KEYS[1] board   KEYS[2] order   ARGV[1] config   [ARGV[2] upper bound, "(" before it to exclude it]
-- returns the number | another config
-- replay: safe, because it only reads
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
if ARGV[2] then
  return redis.call("ZCOUNT", KEYS[2], "-inf", ARGV[2])
end
return redis.call("ZCARD", KEYS[2])
