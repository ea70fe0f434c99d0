#!lua flags=no-writes
-- One member's score, rank and info.
-- KEYS[1] board   KEYS[2] order   KEYS[3] members   ARGV[1] config   ARGV[2] ranking   ARGV[3] member
-- returns {score, rank, info} | nil when it is not on the board | another config
-- replay: safe, because it only reads
-- @include board_head
local config = redis.call("HGET", KEYS[1], "config")
if config and config ~= ARGV[1] then
  return config
end
local mine, info = stored_of(KEYS[3], ARGV[3])
local score = mine and redis.call("ZSCORE", KEYS[2], mine)
if not score then
  return nil
end
return {score, rank_of(KEYS[2], ARGV[2], mine, score), info}
