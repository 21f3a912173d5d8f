-- Deletes a record if its stored value begins with ARGV[1].
-- KEYS: record. ARGV: prefix of the expected value.
-- Returns 1 if the record was deleted, otherwise 0.
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
