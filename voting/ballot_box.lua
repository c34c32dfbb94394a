#!lua name=dianzan_@VERSION@
-- The ballot box: one call casts a whole batch of one campaign, all or nothing.
--
-- KEYS (all under one hash tag; bytes and field names are drawn in journal.py)
--   1 head       hash    replid, epoch, seq; closed:<campaign number>, see closing.lua
--   2 journal    stream  one entry per call that made a vote or turned a ballot away
--   3 tally      hash    counters per candidate
--   4 day        hash    device -> device-day record of the day
--   5 yesterday  hash    the same of the day before: read for a while after midnight, never written
--   6 networks   hash    network -> next_free of its limit, of FAR times its limit, of its rate of
--                        new devices; wide network -> next_free of its rate of new devices
--   7 life       hash    device -> likes in the campaign; used only where they are limited
--   8 cells      hash    suspicious (network, candidate) -> weight; `watch` writes it, we only read
--   9 capacity   hash    network -> how many times its class's capacity it has; the same
-- ARGV
--   1 plan       packed: the campaign's rules and the day, PLAN below
--   2 replid     replication id that the server had when the caller connected
--   3 ballots    of n votes the bytes as the journal keeps them, verdict COUNT, back to back: one
--                argument, for each one costs the server an object, a copy and a string more
-- Answer: status u8, now u64 (microseconds); then, if status is CAST, per ballot ANSWER.
--
-- Order of judgement: the same click again, the window, whether somebody has to vouch for the device,
-- repeat, quotas, limits, verdict (which is antifraud.screen.conclude). What does not become a vote changes nothing but the sum of refusals,
-- so a repeat, a retry or a challenge costs a device and its network nothing.
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
local call, pack, unpack_struct, sub, byte, char, format, find, match, concat, ceil, floor, max, min
local rep, pcall_server

local function bind()
  call, pack, unpack_struct = redis.call, struct.pack, struct.unpack
  pcall_server = redis.pcall
  sub, byte, char, format, rep = string.sub, string.byte, string.char, string.format, string.rep
  find, match = string.find, string.match
  concat, ceil, floor, max, min = table.concat, math.ceil, math.floor, math.max, math.min
end

local CAST, WRONG_DAY = 0, 1

-- voting.ballot.Outcome; AGAIN = the first answer to this click once more.
local AGAIN, COUNTED, HELD, REPEATED, QUOTA_SPENT, CHALLENGE = 0, 1, 2, 3, 4, 5
local THROTTLED, REFUSED, CLOSED, NOT_OPEN, PAUSED, CLICK_REUSED = 6, 7, 8, 9, 10, 11

-- antifraud: Decision, NetworkClass, the reason codes of the store, the level byte, CELL_WEIGHT_MAX
local COUNT_BYTE, HOLD_BYTE = '\0', '\2'
local DATACENTRE = 4
local NETWORK_LIMIT_CODE, NEW_DEVICES_CODE, CELL_CODE = '\1', '\2', '\3'
local PROVEN, LOW_END = 16, 32
local LEVELS, VOUCHED = 16, 3  -- what is below PROVEN in a level byte is the level
local MARK_MAX = 10000

-- layout, shard, epoch floor, campaign, day, [starts, ends) of the day, opens, closes, paused, likes
-- per candidate and day, candidates per day, likes per campaign, interval and window of a device's
-- limit, three bands, weights of the limit and of new devices, challenges, what whom nobody vouches
-- for is told (IDENTITY_REQUIRED, 0 = they may vote too); then of each class of network from 0 on: interval and window of its limit, of FAR times its limit, of its rate of new
-- devices and of its wide network's (0 = none).
local PLAN, CLASS_RATES, CLASSES = '>BBHHI4I8I8I8I8BHHI4I8I8hhhhhBB', 'I8I8I8I8I8I8I8I8', 6
local HEADER = '>BBHHI4I8I8HH'
local ANSWERED = '>BI8'
local ANSWER = 'BHI4HI8'
local NO_QUOTA, QUOTA_MAX = 65535, 65534
local EPOCH_MAX = 65535
local VOTE = 57         -- bytes of a ballot, and of the vote that it becomes
local SCORE, REASONS = 52, 54  -- where the score starts in one, and the three reasons
local AGENT_CLASS = 38  -- where the class of the user agent is
-- Of a ballot: device, network, wide, candidate, click, (asn), network class, (user agent's, tls),
-- token age, level, (dwell, rules), score, (reasons, verdict).
local BALLOT, FACTS = 'c8c8c8c2c6xxxxBxxxxxI4Bxxxx' .. 'hxxxx', 9
local DAY_SECONDS = 86400
local LIKE = 15         -- bytes of one like in a device-day record
local FIRST_LIKE = 9    -- where the first one starts
local GRACE_US = 15 * 60 * 1000000

-- Kept from call to call; bounded by the size of a batch, by 256 and by the number of candidates.
local ballot_formats, answer_formats, bytes_of, numbers = {}, {}, {}, {}
local plan_text, plan  -- the last one, taken apart: it changes once a day, and with the campaign

local function formats(n)
  if not ballot_formats[n] then
    ballot_formats[n], answer_formats[n] = '>' .. rep(BALLOT, n), ANSWERED .. rep(ANSWER, n)
  end
  return ballot_formats[n], answer_formats[n]
end

local function read_plan(text)
  local rates, at = {}, 23  -- behind the first 22 numbers
  local all = { unpack_struct(PLAN .. rep(CLASS_RATES, CLASSES), text) }
  for class = 0, CLASSES - 1 do
    rates[class] = { unpack(all, at, at + 7) }
    at = at + 8
  end
  return { all, rates, {}, 'closed:' .. all[4] }
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

-- What a mark of a cell adds to the score of ballot `i`; 0 where there is none, it is for another
-- user agent, or it is damaged: nothing that is wrong there may keep anybody from voting.
local function mark_weight(mark, ballots, i)
  if not mark or #mark ~= 3 then return 0 end
  local weight, agent = unpack_struct('>hB', mark)
  if agent ~= 0 and agent ~= byte(ballots, (i - 1) * VOTE + AGENT_CLASS) then return 0 end
  return min(weight, MARK_MAX)
end

-- What becomes of a ballot that is not beyond doubt: who solved a challenge is counted, who only
-- waited is held, all others are asked, where anybody is.
local function doubted(level, challenges)
  if level % (2 * PROVEN) < PROVEN then return challenges == 1 and CHALLENGE or HELD end
  return level % (2 * LOW_END) >= LOW_END and HELD or COUNTED
end

-- Why nobody may vote now; false where they may. (A function of its own, as the next one: Lua lets
-- `cast` see no more than 60 names from outside.)
local function state_at(now, opens, closes, paused)
  return (now >= closes and CLOSED) or (now < opens and NOT_OPEN) or (paused == 1 and PAUSED)
end

-- Whether nobody vouches for the person behind a device of this level.
local function is_stranger(level)
  return level % LEVELS < VOUCHED
end

-- Whether a device that has no record of the day counts against its network's rate of new ones: its
-- token is young, and nobody vouches for its person.
local function counts_as_new(age, level)
  return age < DAY_SECONDS and is_stranger(level)
end

-- How many fields a hash of `watch`'s has; none where that is no hash at all.
local function entries_of(key)
  local n = pcall_server('HLEN', key)
  return type(n) == 'number' and n or 0
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

-- The rates of a network of this class with a learned capacity: so many times as much in the same
-- windows. Kept: factors are at most 255.
local function learned_rates(class, factor)
  local key = class * 256 + factor
  local rates = plan[3][key]
  if not rates then
    local base = plan[2][class]
    rates = {}
    for i = 1, 8 do
      -- Odd ones are intervals, 0 = no limit.
      rates[i] = (i % 2 == 0 or base[i] == 0) and base[i] or max(1, floor(base[i] / factor))
    end
    plan[3][key] = rates
  end
  return rates
end

local function cast(keys, args)
  if not call then bind() end
  if args[1] ~= plan_text then plan_text, plan = args[1], read_plan(args[1]) end
  local layout, shard, epoch_floor, campaign, day, day_starts, day_ends, opens, closes, paused,
    per_candidate, per_day, per_life, device_interval, device_window, challenge_at, hold_at,
    refuse_at, network_weight, new_weight, challenges, for_strangers = unpack(plan[1], 1, 22)
  local class_rates = plan[2]

  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]
  if now < day_starts or now >= day_ends then return pack(ANSWERED, WRONG_DAY, now) end
  local state = state_at(now, opens, closes, paused)

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
  local head = call('HMGET', keys[1], 'replid', 'epoch', 'seq', plan[4])
  local replid, epoch, seq = args[2], tonumber(head[2]) or 0, tonumber(head[3]) or 0
  -- Nothing comes behind the entry that closed it, whatever the caller's window says.
  if head[4] then state = CLOSED end
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
  -- Of networks, and of the wide ones of devices that may turn out to be new.
  local near, far, newest = {}, {}, {}
  local asked = networks
  for i = 1, n do
    if records[devices[i]] == '' then
      local at = (i - 1) * FACTS
      if counts_as_new(facts[at + 7], facts[at + 8]) then
        if asked == networks then asked = { unpack(networks) } end
        asked[#asked + 1] = facts[at + 3]
      end
    end
  end
  found = call('HMGET', keys[6], unpack(asked))
  for i = 1, n do
    local network = networks[i]
    if found[i] and not near[network] then
      -- Three numbers; two where an older version of this function wrote it.
      if #found[i] == 24 then
        near[network], far[network], newest[network] = unpack_struct('>I8I8I8', found[i])
      elseif #found[i] == 16 then
        near[network], far[network] = unpack_struct('>I8I8', found[i])
      end
    end
  end
  for i = n + 1, #asked do
    if found[i] and #found[i] == 8 then newest[asked[i]] = unpack_struct('>I8', found[i]) end
  end
  -- What `watch` knows: mostly nothing, and then it costs a look.
  local marks, factors
  if entries_of(keys[8]) > 0 then
    local cells = {}
    for i = 1, n do
      local at = (i - 1) * FACTS
      cells[2 * i - 1] = facts[at + 2] .. facts[at + 4]
      cells[2 * i] = facts[at + 3] .. facts[at + 4]
    end
    marks = call('HMGET', keys[8], unpack(cells))
  end
  if entries_of(keys[9]) > 0 then factors = call('HMGET', keys[9], unpack(networks)) end
  local life
  if per_life > 0 then
    life = {}
    found = call('HMGET', keys[7], unpack(devices))
    for i = 1, n do life[devices[i]] = tonumber(found[i]) or 0 end
  end

  -- What a limit becomes that was not in use: the same for all of them.
  local device_fresh = now + device_interval
  local device_fresh_packed = pack('>I8', device_fresh)
  local fresh_packed, fresh_new_packed, fresh_wide_packed = {}, {}, {}  -- by a network's rates
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
    local device, network, candidate, click = devices[i], networks[i], facts[at + 4], facts[at + 5]
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
    local in_journal = false

    local source, place = record, known and like_of_click(record, click)
    if not place and yesterday and yesterday[i] then
      source = yesterday[i]
      place = like_of_click(source, click)
    end
    if place then
      outcome = (sub(source, place, place + 1) == candidate) and AGAIN or CLICK_REUSED
    elseif state then
      outcome = state
    elseif for_strangers > 0 and is_stranger(facts[at + 8]) then
      outcome = for_strangers
    else
      local mine, last = 0, nil
      if known then mine, last = likes_for(record, candidate) end
      if mine >= per_candidate then
        outcome, source, place = REPEATED, record, last
      elseif (per_day > 0 and mine == 0 and liked >= per_day)
        or (life and life[device] >= per_life) then
        outcome = QUOTA_SPENT
      else
        local class = facts[at + 6]
        local factor = factors and factors[i] and byte(factors[i]) or 0
        local rates = factor > 0 and learned_rates(class, factor) or class_rates[class]
        local device_ok, near_ok, far_ok, new_ok = true, true, true, true
        local device_next = device_fresh
        local near_next, far_next = now + rates[1], now + rates[3]
        if known then
          local next_free = unpack_struct('>I8', record)
          if next_free > now then
            device_ok, device_next = take(device_interval, device_window, next_free, now)
          end
        end
        if near[network] then
          far_ok, far_next = take(rates[3], rates[4], far[network], now)
          near_ok, near_next = take(rates[1], rates[2], near[network], now)
        end
        if not device_ok then
          outcome, wait_us = THROTTLED, device_next + device_interval - now - device_window
        elseif not far_ok then
          outcome, wait_us = THROTTLED, far_next + rates[3] - now - rates[4]
        elseif not near_ok and class == DATACENTRE then
          outcome, wait_us = THROTTLED, near_next + rates[1] - now - rates[2]
        else
          local newest_next, wide, wide_next
          if not known and rates[5] > 0 and counts_as_new(facts[at + 7], facts[at + 8]) then
            wide = facts[at + 3]
            local narrow_ok, wide_ok = true, true
            newest_next, wide_next = now + rates[5], now + rates[7]
            if newest[network] then
              narrow_ok, newest_next = take(rates[5], rates[6], newest[network], now)
            end
            if newest[wide] then
              wide_ok, wide_next = take(rates[7], rates[8], newest[wide], now)
            end
            new_ok = narrow_ok and wide_ok
          end
          -- The verdict: the edge's partial score and what only the store knows.
          local score, codes = facts[at + 9], ''
          if not near_ok then score, codes = score + network_weight, NETWORK_LIMIT_CODE end
          if marks and (marks[2 * i - 1] or marks[2 * i]) then
            local weight = max(mark_weight(marks[2 * i - 1], ballots, i),
              mark_weight(marks[2 * i], ballots, i))
            if weight > 0 then score, codes = score + weight, codes .. CELL_CODE end
          end
          if not new_ok then score, codes = score + new_weight, codes .. NEW_DEVICES_CODE end
          if score >= refuse_at then
            outcome = REFUSED
          elseif score >= hold_at or not near_ok then
            outcome = HELD
          elseif score >= challenge_at or not new_ok then
            outcome = doubted(facts[at + 8], challenges)
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
            if newest_next and new_ok then newest[network], newest[wide] = newest_next, wide_next end
            words = network_places[network]
            if not words then
              words = network_words + 1
              network_words = words + 1
              network_places[network], network_pairs[words] = words, network
            end
            local newest_of = newest[network] or 0
            if near_next == now + rates[1] and far_next == now + rates[3]
              and (newest_of == 0 or newest_of == now + rates[5]) then
              -- Of a limit that was not in use: the same for all of a class, so made once.
              local fresh = newest_of == 0 and fresh_packed or fresh_new_packed
              local packed = fresh[rates]
              if not packed then
                packed = pack('>I8I8I8', near_next, far_next, newest_of)
                fresh[rates] = packed
              end
              network_pairs[words + 1] = packed
            else
              network_pairs[words + 1] = pack('>I8I8I8', near_next, far_next, newest_of)
            end
            if wide and new_ok then
              words = network_places[wide]
              if not words then
                words = network_words + 1
                network_words = words + 1
                network_places[wide], network_pairs[words] = words, wide
              end
              local packed = wide_next == now + rates[7] and fresh_wide_packed[rates]
              if not packed then
                packed = pack('>I8', wide_next)
                if wide_next == now + rates[7] then fresh_wide_packed[rates] = packed end
              end
              network_pairs[words + 1] = packed
            end
            if mine == 0 then liked = liked + 1 end
            votes_made = votes_made + 1
            if outcome == COUNTED and codes == '' then
              in_journal = true
            else
              local start = (i - 1) * VOTE
              local vote = sub(ballots, start + 1, start + VOTE - 1)
              if codes ~= '' then
                -- Our reasons go first, the least weighty go.
                vote = sub(vote, 1, SCORE - 1) .. pack('>h', score)
                  .. sub(codes .. sub(vote, REASONS, REASONS + 2), 1, 3)
              end
              votes[#votes + 1] = sub(ballots, run, start) .. vote
                .. (outcome == HELD and HOLD_BYTE or COUNT_BYTE)
              run = start + VOTE + 1
              in_journal = true
            end
            add_to_tally(outcome == HELD and 'h' .. number or number)
          end
        end
      end
      if outcome == QUOTA_SPENT or outcome == THROTTLED or outcome == REFUSED then
        refuse(candidate, number, outcome)
      end
    end
    if not in_journal and run <= i * VOTE then
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
