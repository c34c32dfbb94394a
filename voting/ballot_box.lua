#!lua name=dianzan_@VERSION@
-- The ballot box: one call casts a whole batch of one campaign, all or nothing.
--
-- KEYS (all under one hash tag; bytes and field names are drawn in journal.py)
--   1 head       hash    replid, epoch, seq
--   2 journal    stream  one entry per call that made a vote or turned a ballot away
--   3 tally      hash    counters per candidate
--   4 day        hash    device -> device-day record of the day
--   5 yesterday  hash    the same of the day before: read for a while after midnight, never written
--   6 networks   hash    network -> next_free of its limit, and of FAR times its limit
--   7 life       hash    device -> likes in the campaign; used only where they are limited
-- ARGV
--   1 plan       packed: the campaign's rules and the day, PLAN below
--   2 replid     replication id that the server had when the caller connected
--   3 ballots    of n votes the bytes up to the verdict, back to back: one argument, for each one
--                costs the server an object, a copy and a string more
-- Answer: status u8, now u64 (microseconds); then, if status is CAST, per ballot ANSWER.
--
-- Order of judgement: the same click again, the window, repeat, quotas, limits, verdict. What does
-- not become a vote changes nothing but the sum of refusals, so a repeat or a retry costs a device
-- nothing.
--
-- A crash: the function runs whole or not at all, and its writes reach the AOF as one transaction.
-- The journal is written first: if that is refused, nothing else has happened.

-- While a library loads, neither `redis.call` nor the standard libraries are there: `bind` fetches
-- them at the first call.
local call, pack, unpack_struct, sub, byte, char, format, find, match, concat, ceil, max, min

local function bind()
  call, pack, unpack_struct = redis.call, struct.pack, struct.unpack
  sub, byte, char, format = string.sub, string.byte, string.char, string.format
  find, match = string.find, string.match
  concat, ceil, max, min = table.concat, math.ceil, math.max, math.min
end

local CAST, WRONG_DAY = 0, 1

-- voting.ballot.Outcome; AGAIN = the first answer to this click once more.
local AGAIN, COUNTED, HELD, REPEATED, QUOTA_SPENT, CHALLENGE = 0, 1, 2, 3, 4, 5
local THROTTLED, REFUSED, CLOSED, NOT_OPEN, PAUSED, CLICK_REUSED = 6, 7, 8, 9, 10, 11

-- antifraud: Decision, NetworkClass, NETWORK_LIMIT_CODE
local COUNT_BYTE, HOLD_BYTE = '\0', '\2'
local DATACENTRE = 4
local NETWORK_LIMIT_CODE = 1
local SCORE_LIMIT = 32000

local PLAN = '>BBHHI4I8I8I8I8BHHI4I8I8I8I8I8I8hhhhB'
local HEADER = '>BBHHI4I8I8HH'
local ANSWER = '>BHI4HI8'
local NO_QUOTA, QUOTA_MAX = 65535, 65534
local EPOCH_MAX = 65535
local BODY = 56         -- bytes of a vote up to its verdict
local LIKE = 15         -- bytes of one like in a device-day record
local FIRST_LIKE = 9    -- where the first one starts
local GRACE_US = 15 * 60 * 1000000

-- The like in `record` that carries this click: where it starts, or nil.
local function like_of_click(record, click)
  local at = find(record, click, FIRST_LIKE + 2, true)
  while at do
    if (at - FIRST_LIKE - 2) % LIKE == 0 then return at - 2 end
    at = find(record, click, at + 1, true)
  end
end

-- How many likes this candidate has in `record`, and where the last of them starts.
local function likes_for(record, candidate)
  local likes, last = 0, nil
  local at = find(record, candidate, FIRST_LIKE, true)
  while at do
    if (at - FIRST_LIKE) % LIKE == 0 then likes, last = likes + 1, at end
    at = find(record, candidate, at + 1, true)
  end
  return likes, last
end

-- How many candidates have likes in `record`. Where each may have one, it is the number of likes;
-- one by one is looked only where that would spend the quota, for the rule may have been another
-- earlier in the day.
local function candidates_in(record, per_candidate, per_day)
  local seen, n = nil, max(0, (#record - FIRST_LIKE + 1) / LIKE)
  if n < 2 or (per_candidate == 1 and n < per_day) then return n end
  seen, n = {}, 0
  for at = FIRST_LIKE, #record, LIKE do
    local candidate = sub(record, at, at + 1)
    if not seen[candidate] then seen[candidate], n = true, n + 1 end
  end
  return n
end

-- antifraud.limits.take: admitted, next_free afterwards. Compared, for a call of min or max costs
-- as much as all the rest of it.
local function take(interval, window, next_free, now)
  local start, latest = next_free, now + window
  if start < now then start = now elseif start > latest then start = latest end
  local after = start + interval
  if after > latest then return false, start end
  return true, after
end

local function cast(keys, args)
  if not call then bind() end
  local _, shard, epoch_floor, campaign, day, day_starts, day_ends, opens, closes, paused,
    per_candidate, per_day, per_life, device_interval, device_window, near_interval, near_window,
    far_interval, far_window, challenge_at, hold_at, refuse_at, network_weight, challenges =
    unpack_struct(PLAN, args[1])
  local layout = byte(args[1], 1)

  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]
  if now < day_starts or now >= day_ends then return pack('>BI8', WRONG_DAY, now) end
  local state = (now >= closes and CLOSED) or (now < opens and NOT_OPEN) or (paused == 1 and PAUSED)

  local ballots = args[3]
  local n = #ballots / BODY
  local devices, networks = {}, {}
  for i = 1, n do
    local at = (i - 1) * BODY
    devices[i], networks[i] = sub(ballots, at + 1, at + 8), sub(ballots, at + 9, at + 16)
  end

  -- Read everything that the batch touches, each kind with one command.
  local head = call('HMGET', keys[1], 'replid', 'epoch', 'seq')
  local replid, epoch, seq = args[2], tonumber(head[2]) or 0, tonumber(head[3]) or 0
  -- Another server, or this one started anew: from here on positions are of a new epoch, so a seq
  -- that went back can never meet a position that was given out. A caller may hold an id that the
  -- server has changed since (a first replica came); so it is asked itself before that is believed.
  local new_epoch = false
  if head[1] ~= replid then
    replid = match(call('INFO', 'replication'), 'master_replid:(%x+)')
    new_epoch = head[1] ~= replid
  end
  if new_epoch then
    epoch = max(epoch, epoch_floor) + 1
    if epoch > EPOCH_MAX then
      return redis.error_reply('EPOCHS the journal has no epoch left: begin a new shard')
    end
  end
  local first_seq = seq + 1

  local records = {}
  local found = call('HMGET', keys[4], unpack(devices))
  for i = 1, n do records[devices[i]] = found[i] or '' end
  local yesterday
  if now < day_starts + GRACE_US then
    yesterday = call('HMGET', keys[5], unpack(devices))
  end
  local near, far = {}, {}
  found = call('HMGET', keys[6], unpack(networks))
  for i = 1, n do
    local network = networks[i]
    if not near[network] then
      if found[i] then
        near[network], far[network] = unpack_struct('>I8I8', found[i])
      else
        near[network], far[network] = 0, 0
      end
    end
  end
  local life
  if per_life > 0 then
    life = {}
    found = call('HMGET', keys[7], unpack(devices))
    for i = 1, n do life[devices[i]] = tonumber(found[i]) or 0 end
  end

  local answers, votes, votes_made = {}, {}, 0
  local numbers = {}  -- candidate as it lies in a ballot -> in decimal, as the tally's fields say
  local touched_devices, touched_networks = {}, {}
  local tally_fields, tally_deltas = {}, {}
  local refusals, refusal_counts = {}, {}

  local function add_to_tally(field)
    local delta = tally_deltas[field]
    if not delta then
      tally_fields[#tally_fields + 1] = field
      delta = 0
    end
    tally_deltas[field] = delta + 1
  end

  local function refuse(candidate, number, outcome)
    add_to_tally('r' .. number .. ':' .. outcome)
    local key = candidate .. char(outcome)
    if not refusal_counts[key] then
      refusals[#refusals + 1] = key
      refusal_counts[key] = 0
    end
    refusal_counts[key] = refusal_counts[key] + 1
  end

  for i = 1, n do
    local device, network = devices[i], networks[i]
    local body = sub(ballots, (i - 1) * BODY + 1, i * BODY)
    local candidate, click = sub(body, 25, 26), sub(body, 27, 32)
    local number = numbers[candidate]
    if not number then
      local high, low = byte(candidate, 1, 2)
      number = tostring(high * 256 + low)
      numbers[candidate] = number
    end
    local record = records[device]
    local known = record ~= ''
    local liked = (known and per_day > 0) and candidates_in(record, per_candidate, per_day) or 0
    local outcome, wait_us = nil, 0
    local answer_epoch, answer_seq = 0, 0

    local source, at = record, known and like_of_click(record, click)
    if not at and yesterday and yesterday[i] then
      source = yesterday[i]
      at = like_of_click(source, click)
    end
    if at then
      outcome = (sub(source, at, at + 1) == candidate) and AGAIN or CLICK_REUSED
    elseif state then
      outcome = state
    else
      local mine, last = 0, nil
      if known then mine, last = likes_for(record, candidate) end
      if mine >= per_candidate then
        outcome, source, at = REPEATED, record, last
      elseif (per_day > 0 and mine == 0 and liked >= per_day)
        or (life and life[device] >= per_life) then
        outcome = QUOTA_SPENT
      else
        local next_free = known and unpack_struct('>I8', record) or 0
        local device_ok, far_ok, near_ok, far_next, near_next
        device_ok, next_free = take(device_interval, device_window, next_free, now)
        far_ok, far_next = take(far_interval, far_window, far[network], now)
        near_ok, near_next = take(near_interval, near_window, near[network], now)
        if not device_ok then
          outcome, wait_us = THROTTLED, next_free + device_interval - now - device_window
        elseif not far_ok then
          outcome, wait_us = THROTTLED, far_next + far_interval - now - far_window
        elseif not near_ok and byte(body, 37) == DATACENTRE then
          outcome, wait_us = THROTTLED, near_next + near_interval - now - near_window
        else
          -- The verdict: the edge's partial score and what only the store knows.
          local score = unpack_struct('>h', body, 52)
          local over_limit = false
          if not near_ok then
            over_limit = true
            score = min(SCORE_LIMIT, score + network_weight)
            -- Our reason goes first, the least weighty of the three goes.
            body = sub(body, 1, 51) .. pack('>hB', score, NETWORK_LIMIT_CODE) .. sub(body, 54, 55)
          end
          if score >= refuse_at then
            outcome = REFUSED
          elseif score >= hold_at or over_limit then
            outcome = HELD
          elseif score >= challenge_at then
            outcome = (challenges == 1) and CHALLENGE or HELD
          else
            outcome = COUNTED
          end
          if outcome == COUNTED or outcome == HELD then
            seq = seq + 1
            answer_epoch, answer_seq = epoch, seq
            records[device] = pack('>I8', next_free) .. sub(record, FIRST_LIKE)
              .. sub(body, 25, 32) .. pack('>HI5', epoch, seq)
            touched_devices[device] = true
            if mine == 0 then liked = liked + 1 end
            near[network], far[network] = near_next, far_next
            touched_networks[network] = true
            if life then life[device] = life[device] + 1 end
            votes[2 * votes_made + 1] = body
            votes[2 * votes_made + 2] = (outcome == COUNTED) and COUNT_BYTE or HOLD_BYTE
            votes_made = votes_made + 1
            add_to_tally((outcome == COUNTED) and number or ('h' .. number))
          end
        end
      end
      if outcome == QUOTA_SPENT or outcome == THROTTLED or outcome == REFUSED then
        refuse(candidate, number, outcome)
      end
    end
    if at and outcome ~= CLICK_REUSED then
      answer_epoch, answer_seq = unpack_struct('>HI5', source, at + 8)
    end

    local remaining = NO_QUOTA
    if per_day > 0 then remaining = max(0, per_day - liked) end
    if life then remaining = min(remaining, max(0, per_life - life[device]), QUOTA_MAX) end
    answers[i] = pack(ANSWER, outcome, remaining, ceil(wait_us / 1000),
      answer_epoch, answer_seq)
  end

  -- Write: the journal first, then what it implies.
  if votes_made > 0 or #refusals > 0 then
    for i, key in ipairs(refusals) do
      refusals[i] = key .. pack('>H', refusal_counts[key])
    end
    call('XADD', keys[2], epoch .. '-*', 'e',
      pack(HEADER, layout, shard, epoch, campaign, day, now, first_seq, votes_made, #refusals)
      .. concat(votes) .. concat(refusals))
    if new_epoch then
      call('HSET', keys[1], 'replid', replid, 'epoch', epoch, 'seq', seq)
    elseif votes_made > 0 then
      call('HSET', keys[1], 'seq', seq)
    end
    local pairs_out, m = {}, 0
    if votes_made > 0 then
      for device in pairs(touched_devices) do
        pairs_out[m + 1], pairs_out[m + 2] = device, records[device]
        m = m + 2
      end
      call('HSET', keys[4], unpack(pairs_out))
      pairs_out, m = {}, 0
      for network in pairs(touched_networks) do
        pairs_out[m + 1] = network
        pairs_out[m + 2] = pack('>I8I8', near[network], far[network])
        m = m + 2
      end
      call('HSET', keys[6], unpack(pairs_out))
      if life then
        pairs_out, m = {}, 0
        for device in pairs(touched_devices) do
          pairs_out[m + 1], pairs_out[m + 2] = device, life[device]
          m = m + 2
        end
        call('HSET', keys[7], unpack(pairs_out))
      end
    end
    local sums = call('HMGET', keys[3], unpack(tally_fields))
    pairs_out, m = {}, 0
    for i, field in ipairs(tally_fields) do
      pairs_out[m + 1] = field
      pairs_out[m + 2] = format('%d', (tonumber(sums[i]) or 0) + tally_deltas[field])
      m = m + 2
    end
    call('HSET', keys[3], unpack(pairs_out))
  end
  return pack('>BI8', CAST, now) .. concat(answers)
end

-- KEYS head, tally. Answer: {now in microseconds, epoch, seq, {field, sum, ...}}: the sums with
-- the position up to which they hold.
local function snapshot(keys)
  if not call then bind() end
  local time = call('TIME')
  local head = call('HMGET', keys[1], 'epoch', 'seq')
  return {
    format('%d', time[1] * 1000000 + time[2]),
    head[1] or '0',
    head[2] or '0',
    call('HGETALL', keys[2]),
  }
end

redis.register_function('cast_@VERSION@', cast)
redis.register_function {
  function_name = 'snapshot_@VERSION@', callback = snapshot, flags = { 'no-writes' },
}
