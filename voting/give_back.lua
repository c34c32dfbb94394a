#!lua name=dianzan_give_back_@VERSION@
-- Likes that Postgres has and this shard lost (a failover, a disk that is gone) come back into the
-- records of a day, so that who liked has liked.
--
-- KEYS (all under one hash tag; bytes and field names are drawn in journal.py)
--   1 day        hash    device -> device-day record of the day
--   2 life       hash    device -> likes in the campaign; used only where they are limited
-- ARGV
--   1 limited    1 where likes in the campaign are limited, 0 where not
--   2 likes      back to back: device (8 bytes), then the like as a record has it (15)
-- Answer: {given, again}. A like whose position is in the record already is not given a second time,
-- so whoever is in doubt may send it again. `again` of those that were given have a like with the
-- same click beside them: their device did not hear of the first one, or sent it again, and was
-- counted twice meanwhile.
--
-- A like that is given back stands behind those that came since: nothing depends on their order. The
-- device's limit is as it is, or begins unused.

local FIRST_LIKE, LIKE, ROW = 9, 15, 23
local POSITION = 9  -- where in a like its position starts; before it candidate and click
local UNUSED = '\0\0\0\0\0\0\0\0'

local function give_back(keys, args)
  local call, sub = redis.call, string.sub
  local limited, likes = args[1] == '1', args[2]
  local records, changed, order = {}, {}, {}
  local given, again = 0, 0
  for at = 1, #likes, ROW do
    local device, like = sub(likes, at, at + 7), sub(likes, at + 8, at + ROW - 1)
    local record = records[device] or call('HGET', keys[1], device) or UNUSED
    local present, same_click = false, false
    for place = FIRST_LIKE, #record, LIKE do
      if sub(record, place + POSITION - 1, place + LIKE - 1) == sub(like, POSITION) then
        present = true
        break
      end
      if sub(record, place, place + POSITION - 2) == sub(like, 1, POSITION - 1) then
        same_click = true
      end
    end
    if not present then
      record = record .. like
      given = given + 1
      if same_click then again = again + 1 end
      if not changed[device] then
        changed[device] = 0
        order[#order + 1] = device
      end
      changed[device] = changed[device] + 1
    end
    records[device] = record
  end
  for _, device in ipairs(order) do
    call('HSET', keys[1], device, records[device])
    if limited then call('HINCRBY', keys[2], device, changed[device]) end
  end
  return { given, again }
end

-- KEYS head. ARGV epoch, seq, as Postgres has them. The next seq comes behind that one, unless a
-- later epoch has begun: its seqs are given out already. Answer: 1 where the head was moved.
local function follow(keys, args)
  local head = redis.call('HMGET', keys[1], 'epoch', 'seq')
  local epoch, seq = tonumber(head[1]) or 0, tonumber(head[2]) or 0
  if epoch > tonumber(args[1]) or (epoch == tonumber(args[1]) and seq >= tonumber(args[2])) then
    return 0
  end
  -- No replid: whoever casts next finds another server, and begins an epoch above this one.
  redis.call('HSET', keys[1], 'replid', '', 'epoch', args[1], 'seq', args[2])
  return 1
end

redis.register_function('give_back_@VERSION@', give_back)
redis.register_function('follow_@VERSION@', follow)
