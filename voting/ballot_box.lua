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
--   3 ballots    of n votes the bytes as the journal keeps them, verdict COUNT, back to back: one
--                argument, for each one costs the server an object, a copy and a string more
-- Answer: status u8, now u64 (microseconds); then, if status is CAST, per ballot ANSWER.
--
-- Order of judgement: the same click again, the window, repeat, quotas, limits, verdict. What does
-- not become a vote changes nothing but the sum of refusals, so a repeat or a retry costs a device
-- nothing.
--
-- A crash: the function runs whole or not at all, and its writes reach the AOF as one transaction.
-- The journal is written first: if that is refused, nothing else has happened.

-- How it is fast: what costs is calls, of the server above all, and of C functions from Lua (0.1 to
-- 0.4 us each, measured). So the server is asked once per kind of thing for the whole batch; ballots
-- are taken apart and answers put together by one call of `struct` each; and what is the same for
-- most ballots of a batch (the bytes of a limit that nobody had used up, the high bytes of a
-- position) is made once.

-- While a library loads, neither `redis.call` nor the standard libraries are there: `bind` fetches
-- them at the first call.
local call, pack, unpack_struct, sub, byte, char, format, find, match, concat, ceil, max, min, rep

local function bind()
  call, pack, unpack_struct = redis.call, struct.pack, struct.unpack
  sub, byte, char, format, rep = string.sub, string.byte, string.char, string.format, string.rep
  find, match = string.find, string.match
  concat, ceil, max, min = table.concat, math.ceil, math.max, math.min
end

local CAST, WRONG_DAY = 0, 1

-- voting.ballot.Outcome; AGAIN = the first answer to this click once more.
local AGAIN, COUNTED, HELD, REPEATED, QUOTA_SPENT, CHALLENGE = 0, 1, 2, 3, 4, 5
local THROTTLED, REFUSED, CLOSED, NOT_OPEN, PAUSED, CLICK_REUSED = 6, 7, 8, 9, 10, 11

-- antifraud: Decision, NetworkClass, NETWORK_LIMIT_CODE
local HOLD_BYTE = '\2'
local DATACENTRE = 4
local NETWORK_LIMIT_CODE = 1
local SCORE_LIMIT = 32000

local PLAN = '>BBHHI4I8I8I8I8BHHI4I8I8I8I8I8I8hhhhB'
local HEADER = '>BBHHI4I8I8HH'
local ANSWERED = '>BI8'
local ANSWER = 'BHI4HI8'
local NO_QUOTA, QUOTA_MAX = 65535, 65534
local EPOCH_MAX = 65535
local VOTE = 57         -- bytes of a ballot, and of the vote that it becomes
local SCORE, REASONS = 52, 54  -- where the score starts in one, and the three reasons
-- Of a ballot: device, network, (wide), candidate, click, (asn), network class, (...), score.
local BALLOT, FACTS = 'c8c8xxxxxxxxc2c6xxxxB' .. 'xxxxxxxxxxxxxx' .. 'hxxxx', 6
local LIKE = 15         -- bytes of one like in a device-day record
local FIRST_LIKE = 9    -- where the first one starts
local GRACE_US = 15 * 60 * 1000000

-- Kept from call to call; bounded by the size of a batch, by 256 and by the number of candidates.
local ballot_formats, answer_formats, bytes_of, numbers = {}, {}, {}, {}

local function formats(n)
  if not ballot_formats[n] then
    ballot_formats[n], answer_formats[n] = '>' .. rep(BALLOT, n), ANSWERED .. rep(ANSWER, n)
  end
  return ballot_formats[n], answer_formats[n]
end

-- A candidate as it lies in a ballot -> in decimal, as the tally's fields say.
local function number_of(candidate)
  local high, low = byte(candidate, 1, 2)
  local number = tostring(high * 256 + low)
  numbers[candidate] = number
  return number
end

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

-- How many candidates have likes in `record`.
local function candidates_in(record)
  local seen, n = {}, 0
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
  if now < day_starts or now >= day_ends then return pack(ANSWERED, WRONG_DAY, now) end
  local state = (now >= closes and CLOSED) or (now < opens and NOT_OPEN) or (paused == 1 and PAUSED)

  local ballots = args[3]
  local n = #ballots / VOTE
  local ballot_format, answer_format = formats(n)
  local facts = { unpack_struct(ballot_format, ballots) }
  local devices, networks = {}, {}
  for i = 1, n do
    local at = (i - 1) * FACTS
    devices[i], networks[i] = facts[at + 1], facts[at + 2]
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
    if found[i] and not near[networks[i]] then
      near[networks[i]], far[networks[i]] = unpack_struct('>I8I8', found[i])
    end
  end
  local life
  if per_life > 0 then
    life = {}
    found = call('HMGET', keys[7], unpack(devices))
    for i = 1, n do life[devices[i]] = tonumber(found[i]) or 0 end
  end

  -- What a limit becomes that was not in use: the same for all of them.
  local device_fresh = now + device_interval
  local near_fresh, far_fresh = now + near_interval, now + far_interval
  local device_fresh_packed = pack('>I8', device_fresh)
  local network_fresh_packed = pack('>I8I8', near_fresh, far_fresh)
  -- A position's bytes but for the last, and the seq at which they are others.
  local position, position_until = nil, 0

  local answers = {}
  local votes, votes_made = {}, 0
  local run = 1  -- where in `ballots` the votes start that go into the journal as they came
  -- What will be written, in the order in which HSET wants it, and where in it each one is.
  local device_places, device_pairs, device_words = {}, {}, 0
  local network_places, network_pairs, network_words = {}, {}, 0
  local life_pairs = {}
  local tally_fields, tally_deltas, tally_size = {}, {}, 0
  local refusals, refusal_counts = {}, {}

  local function add_to_tally(field)
    local delta = tally_deltas[field]
    if delta then
      tally_deltas[field] = delta + 1
    else
      tally_size = tally_size + 1
      tally_fields[tally_size], tally_deltas[field] = field, 1
    end
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
    local at = (i - 1) * FACTS
    local device, network, candidate, click = devices[i], networks[i], facts[at + 3], facts[at + 4]
    local number = numbers[candidate] or number_of(candidate)
    local record = records[device]
    local known = record ~= ''
    local liked = 0
    if known and per_day > 0 then
      liked = (#record - FIRST_LIKE + 1) / LIKE
      -- Where each may have one like, there are as many candidates. One by one is looked only where
      -- that would spend the quota, for the rule may have been another earlier in the day.
      if liked > 1 and (per_candidate > 1 or liked >= per_day) then liked = candidates_in(record) end
    end
    local outcome, wait_us = nil, 0
    local answer_epoch, answer_seq = 0, 0
    local as_it_came = false

    local source, place = record, known and like_of_click(record, click)
    if not place and yesterday and yesterday[i] then
      source = yesterday[i]
      place = like_of_click(source, click)
    end
    if place then
      outcome = (sub(source, place, place + 1) == candidate) and AGAIN or CLICK_REUSED
    elseif state then
      outcome = state
    else
      local mine, last = 0, nil
      if known then mine, last = likes_for(record, candidate) end
      if mine >= per_candidate then
        outcome, source, place = REPEATED, record, last
      elseif (per_day > 0 and mine == 0 and liked >= per_day)
        or (life and life[device] >= per_life) then
        outcome = QUOTA_SPENT
      else
        local device_ok, near_ok, far_ok = true, true, true
        local device_next, near_next, far_next = device_fresh, near_fresh, far_fresh
        if known then
          local next_free = unpack_struct('>I8', record)
          if next_free > now then
            device_ok, device_next = take(device_interval, device_window, next_free, now)
          end
        end
        if near[network] then
          far_ok, far_next = take(far_interval, far_window, far[network], now)
          near_ok, near_next = take(near_interval, near_window, near[network], now)
        end
        if not device_ok then
          outcome, wait_us = THROTTLED, device_next + device_interval - now - device_window
        elseif not far_ok then
          outcome, wait_us = THROTTLED, far_next + far_interval - now - far_window
        elseif not near_ok and facts[at + 5] == DATACENTRE then
          outcome, wait_us = THROTTLED, near_next + near_interval - now - near_window
        else
          -- The verdict: the edge's partial score and what only the store knows.
          local score = facts[at + 6]
          if not near_ok then score = min(SCORE_LIMIT, score + network_weight) end
          if score >= refuse_at then
            outcome = REFUSED
          elseif score >= hold_at or not near_ok then
            outcome = HELD
          elseif score >= challenge_at then
            outcome = (challenges == 1) and CHALLENGE or HELD
          else
            outcome = COUNTED
          end
          if outcome == COUNTED or outcome == HELD then
            seq = seq + 1
            answer_epoch, answer_seq = epoch, seq
            if seq >= position_until then
              position = sub(pack('>HI5', epoch, seq), 1, 6)
              position_until = seq - seq % 256 + 256
            end
            local low = seq % 256
            local low_byte = bytes_of[low]
            if not low_byte then
              low_byte = char(low)
              bytes_of[low] = low_byte
            end
            local device_packed = device_next == device_fresh and device_fresh_packed
              or pack('>I8', device_next)
            if known then
              record = device_packed .. sub(record, FIRST_LIKE) .. candidate .. click .. position
                .. low_byte
            else
              record = device_packed .. candidate .. click .. position .. low_byte
            end
            records[device] = record
            local words = device_places[device]
            if not words then
              words = device_words + 1
              device_words = words + 1
              device_places[device], device_pairs[words] = words, device
            end
            device_pairs[words + 1] = record
            if life then
              life[device] = life[device] + 1
              life_pairs[words], life_pairs[words + 1] = device, life[device]
            end
            near[network], far[network] = near_next, far_next
            words = network_places[network]
            if not words then
              words = network_words + 1
              network_words = words + 1
              network_places[network], network_pairs[words] = words, network
            end
            network_pairs[words + 1] = near_next == near_fresh and far_next == far_fresh
              and network_fresh_packed or pack('>I8I8', near_next, far_next)
            if mine == 0 then liked = liked + 1 end
            votes_made = votes_made + 1
            local field = number
            if outcome == COUNTED then
              as_it_came = true
            else
              field = 'h' .. number
              local vote = sub(ballots, (i - 1) * VOTE + 1, i * VOTE - 1) .. HOLD_BYTE
              if not near_ok then
                -- Our reason goes first, the least weighty of the three goes.
                vote = sub(vote, 1, SCORE - 1) .. pack('>hB', score, NETWORK_LIMIT_CODE)
                  .. sub(vote, REASONS, REASONS + 1) .. HOLD_BYTE
              end
              votes[#votes + 1] = sub(ballots, run, (i - 1) * VOTE) .. vote
              run = i * VOTE + 1
            end
            add_to_tally(field)
          end
        end
      end
      if outcome == QUOTA_SPENT or outcome == THROTTLED or outcome == REFUSED then
        refuse(candidate, number, outcome)
      end
    end
    if not as_it_came and run <= i * VOTE then
      -- No vote: those before it are.
      if run <= (i - 1) * VOTE then votes[#votes + 1] = sub(ballots, run, (i - 1) * VOTE) end
      run = i * VOTE + 1
    end
    if place and outcome ~= CLICK_REUSED then
      answer_epoch, answer_seq = unpack_struct('>HI5', source, place + 8)
    end

    local remaining = NO_QUOTA
    if per_day > 0 then remaining = per_day > liked and per_day - liked or 0 end
    if life then remaining = min(remaining, max(0, per_life - life[device]), QUOTA_MAX) end
    at = (i - 1) * 5
    answers[at + 1], answers[at + 2] = outcome, remaining
    answers[at + 3] = wait_us > 0 and ceil(wait_us / 1000) or 0
    answers[at + 4], answers[at + 5] = answer_epoch, answer_seq
  end

  -- Write: the journal first, then what it implies.
  if votes_made > 0 or #refusals > 0 then
    for i, key in ipairs(refusals) do
      refusals[i] = key .. pack('>H', refusal_counts[key])
    end
    votes[#votes + 1] = sub(ballots, run)
    call('XADD', keys[2], epoch .. '-*', 'e',
      pack(HEADER, layout, shard, epoch, campaign, day, now, first_seq, votes_made, #refusals)
      .. concat(votes) .. concat(refusals))
    if new_epoch then
      call('HSET', keys[1], 'replid', replid, 'epoch', epoch, 'seq', seq)
    elseif votes_made > 0 then
      call('HSET', keys[1], 'seq', seq)
    end
    if votes_made > 0 then
      call('HSET', keys[4], unpack(device_pairs))
      call('HSET', keys[6], unpack(network_pairs))
      if life then call('HSET', keys[7], unpack(life_pairs)) end
    end
    local sums = call('HMGET', keys[3], unpack(tally_fields))
    local tally_pairs = {}
    for i = 1, tally_size do
      local field = tally_fields[i]
      tally_pairs[2 * i - 1] = field
      -- A sum comes as text; Lua adds it as the number that it is, and the server writes it whole.
      tally_pairs[2 * i] = (sums[i] or 0) + tally_deltas[field]
    end
    call('HSET', keys[3], unpack(tally_pairs))
  end
  return pack(answer_format, CAST, now, unpack(answers))
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
