-- KEYS: record, receipt (or none). Gives what is stored, how long it lives (ms) and whether the receipt is there.
local data = redis.call('GET', KEYS[1])
local left = data and redis.call('PTTL', KEYS[1]) or -2
return { data, left, KEYS[2] and redis.call('EXISTS', KEYS[2]) or 0 }
