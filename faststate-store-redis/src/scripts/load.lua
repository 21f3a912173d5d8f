-- Loads a record.
-- KEYS: record, optionally receipt.
-- Returns the stored value, its remaining time to live in milliseconds, and the receipt's answer.
local data = redis.call('GET', KEYS[1])
local left = data and redis.call('PTTL', KEYS[1]) or -2
return { data, left, KEYS[2] and redis.call('GET', KEYS[2]) or false }
