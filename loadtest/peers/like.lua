#!lua name=peer
-- One like per call, checked as ours is: the stack `redis-py` of the bench.
--
-- KEYS
--   1 day       hash    device -> next_free (8 bytes, microseconds), then per like candidate (2) and click (6)
--   2 networks  hash    network -> next_free of its limit, and of 20 times its limit (8 bytes each)
--   3 tally     hash    candidate -> counted, "h" candidate -> held
--   4 journal   stream  one entry per vote
-- ARGV device, network, candidate (2 bytes), candidate (decimal), click (6 bytes), vote (what the
--   journal keeps), per_day, then interval and window in microseconds of the limits: device,
--   network, 20 times the network
-- Answer: outcome, remaining today, wait in ms, likes of the candidate

local COUNTED, HELD, REPEATED, QUOTA_SPENT, THROTTLED, CLICK_REUSED = 1, 2, 3, 4, 6, 11
local FIRST_LIKE, LIKE = 9, 8

-- GCRA: admitted, next_free afterwards.
local function take(interval, window, next_free, now)
  local start = math.min(math.max(next_free, now), now + window)
  if start + interval > now + window then return false, start end
  return true, start + interval
end

local function like(keys, args)
  local device, network, candidate, number = args[1], args[2], args[3], args[4]
  local click, vote, per_day = args[5], args[6], tonumber(args[7])
  local device_interval, device_window = tonumber(args[8]), tonumber(args[9])
  local near_interval, near_window = tonumber(args[10]), tonumber(args[11])
  local far_interval, far_window = tonumber(args[12]), tonumber(args[13])

  local time = redis.call('TIME')
  local now = time[1] * 1000000 + time[2]
  local record = redis.call('HGET', keys[1], device) or ''
  local likes = math.max(0, (#record - FIRST_LIKE + 1) / LIKE)
  local liked = false
  for at = FIRST_LIKE, #record, LIKE do
    local same = string.sub(record, at, at + 1) == candidate
    if string.sub(record, at + 2, at + 7) == click then
      if not same then return { CLICK_REUSED, per_day - likes, 0, 0 } end
      local held = tonumber(redis.call('HGET', keys[3], number)) or 0
      return { COUNTED, per_day - likes, 0, held }
    end
    liked = liked or same
  end
  if liked then
    return { REPEATED, per_day - likes, 0, tonumber(redis.call('HGET', keys[3], number)) or 0 }
  end
  if likes >= per_day then return { QUOTA_SPENT, 0, 0, 0 } end

  local next_free = 0
  if record ~= '' then next_free = struct.unpack('>I8', record) end
  local near, far = 0, 0
  local limits = redis.call('HGET', keys[2], network)
  if limits then near, far = struct.unpack('>I8I8', limits) end
  local device_ok, near_ok, far_ok
  device_ok, next_free = take(device_interval, device_window, next_free, now)
  if not device_ok then
    local wait = next_free + device_interval - now - device_window
    return { THROTTLED, per_day - likes, math.ceil(wait / 1000), 0 }
  end
  far_ok, far = take(far_interval, far_window, far, now)
  if not far_ok then
    return { THROTTLED, per_day - likes, math.ceil((far + far_interval - now - far_window) / 1000), 0 }
  end
  near_ok, near = take(near_interval, near_window, near, now)

  redis.call('XADD', keys[4], '*', 'v', vote .. (near_ok and '\0' or '\2'))
  redis.call('HSET', keys[1], device,
    struct.pack('>I8', next_free) .. string.sub(record, FIRST_LIKE) .. candidate .. click)
  redis.call('HSET', keys[2], network, struct.pack('>I8I8', near, far))
  if not near_ok then
    redis.call('HINCRBY', keys[3], 'h' .. number, 1)
    return { HELD, per_day - likes - 1, 0, tonumber(redis.call('HGET', keys[3], number)) or 0 }
  end
  return { COUNTED, per_day - likes - 1, 0, redis.call('HINCRBY', keys[3], number, 1) }
end

redis.register_function('like', like)
