-- Saves a record and its receipt if the stored value matches the precondition.
-- KEYS: record, index of due times, index of oldest messages, optionally receipt.
-- ARGV: prefix of the expected value ('' if there must be no record), new value, time to live of the record
-- (0: unlimited) and of the receipt, both in milliseconds; only for a record with messages or a due time, its scores
-- in the two indexes ('': none).
-- Returns 0 for saved, 1 for a conflict, 2 for a duplicate.
-- Only the first of the writes can be refused (no memory, no disk): after a script's first write, Redis accepts its
-- further writes.
local expected, is_expected, was_indexed = ARGV[1], nil, false
if expected == '' then
  is_expected = redis.call('EXISTS', KEYS[1]) == 0
else
  local head = redis.call('GETRANGE', KEYS[1], 0, #expected)
  is_expected = string.find(head, expected, 1, true) == 1
  was_indexed = string.byte(head, -1) == 43 -- '+'
end
if not is_expected then
  return KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 and 2 or 1
end
if KEYS[4] and not redis.call('SET', KEYS[4], '', 'PX', ARGV[4], 'NX') then
  return 2
end
if ARGV[3] == '0' then
  redis.call('SET', KEYS[1], ARGV[2])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
if was_indexed or ARGV[5] then
  for index = 2, 3 do
    local score = ARGV[index + 3] or ''
    if score == '' then
      redis.call('ZREM', KEYS[index], KEYS[1])
    else
      redis.call('ZADD', KEYS[index], score, KEYS[1])
    end
  end
end
return 0
