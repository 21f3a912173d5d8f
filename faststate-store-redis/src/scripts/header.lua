-- Returns the due time, the time of the oldest message, and the numbers of waiting and parked messages of a record, as
-- text; nothing if the record has no messages and no due time, does not exist, or was written by another program.
local function header(record)
  local head = redis.pcall('GETRANGE', record, 0, 191)
  if type(head) == 'string' then
    return string.match(head, '^%S+ %+%d+ (%S+) (%S+) (%d+) (%d+) ')
  end
end

-- Returns the server's time in milliseconds.
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

