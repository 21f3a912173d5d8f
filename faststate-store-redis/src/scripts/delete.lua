-- Deletes a record if its stored value begins with ARGV[1].
-- KEYS: record, index of due times, index of oldest messages. ARGV: prefix of the expected value.
-- Returns 1 if the record was deleted, otherwise 0.
local head = redis.call('GETRANGE', KEYS[1], 0, #ARGV[1])
if string.sub(head, 1, #ARGV[1]) ~= ARGV[1] then
  return 0
end
if string.sub(head, #ARGV[1] + 1) == '+' then
  redis.call('ZREM', KEYS[2], KEYS[1])
  redis.call('ZREM', KEYS[3], KEYS[1])
end
return redis.call('DEL', KEYS[1])
