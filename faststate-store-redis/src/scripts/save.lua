-- Saves a record and its receipt if the stored value matches the precondition.
-- KEYS: record, optionally receipt.
-- ARGV: prefix of the expected value ('' if there must be no record), new value, time to live of the record
-- (0: unlimited) and of the receipt, both in milliseconds.
-- Returns 0 for saved, 1 for a conflict, 2 for a duplicate.
-- Only the first of the two writes can be refused (no memory, no disk): after a script's first write, Redis
-- accepts its further writes.
local expected, is_expected = ARGV[1], nil
if expected == '' then
  is_expected = redis.call('EXISTS', KEYS[1]) == 0
else
  is_expected = redis.call('GETRANGE', KEYS[1], 0, #expected - 1) == expected
end
if not is_expected then
  return KEYS[2] and redis.call('EXISTS', KEYS[2]) == 1 and 2 or 1
end
if KEYS[2] and not redis.call('SET', KEYS[2], '', 'PX', ARGV[4], 'NX') then
  return 2
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 0
