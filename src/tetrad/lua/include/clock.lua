-- The server's clock in whole microseconds; below 2^53 until the year 2255. Whole numbers of that size are exact as
-- arguments of redis.call and as replies; only tostring() and .. would round them.
local function clock()
  local time = redis.call("TIME")
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end
