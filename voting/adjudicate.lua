#!lua name=dianzan_adjudicate_@VERSION@
-- A decision reaches one shard: what it moves in a campaign's tally, journalled as an entry.
--
-- KEYS (all under one hash tag; bytes and field names are drawn in journal.py)
--   1 head       hash    replid, epoch, seq; adjudicated: number of the last one that was applied
--   2 journal    stream  gets one entry
--   3 tally      hash    counters per candidate
-- ARGV
--   1 order      packed: ORDER below
--   2 deltas     per candidate as the journal keeps them, back to back: DELTA
-- Answer: {status, adjudicated}. Numbers count from 1 without a gap: only the next one is APPLIED,
-- one at or before the last is DONE already, one further on is a GAP and changes nothing. So
-- whoever comes back after a crash may send all of them again, in order.
--
-- A crash: the function runs whole or not at all, and its writes reach the AOF as one transaction.
-- The journal is written first: if that is refused, nothing else has happened.

local APPLIED, DONE, GAP = 0, 1, 2

local EPOCH_MAX = 65535
local ORDER = '>BBHHI4I4'           -- layout, shard, epoch floor, campaign, number, decision
local HEADER = '>BBHHI4I8I8HHI4'    -- of the entry, the decision with it
local DELTA = '>Hi4i4i4'            -- candidate, counted, held, struck
local DELTA_SIZE = 14
local KINDS = { '', 'h', 's' }

local function adjudicate(keys, args)
  local call, pack, unpack_struct = redis.call, struct.pack, struct.unpack
  local layout, shard, epoch_floor, campaign, number, decision = unpack_struct(ORDER, args[1])
  local deltas = args[2]

  local head = call('HMGET', keys[1], 'replid', 'epoch', 'seq', 'adjudicated')
  local epoch, seq, last = tonumber(head[2]) or 0, tonumber(head[3]) or 0, tonumber(head[4]) or 0
  if number <= last then return { DONE, last } end
  if number > last + 1 then return { GAP, last } end

  -- Another server, or this one started anew: a new epoch, as in `cast`.
  local replid = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  local new_epoch = head[1] ~= replid
  if new_epoch then
    epoch = math.max(epoch, epoch_floor) + 1
    if epoch > EPOCH_MAX then
      return redis.error_reply('EPOCHS the journal has no epoch left: begin a new shard')
    end
  end

  -- Gathered first: what cannot be read must not leave half of it written.
  local fields, moves = {}, {}
  for at = 1, #deltas, DELTA_SIZE do
    local candidate, counted, held, struck = unpack_struct(DELTA, deltas, at)
    for kind, move in ipairs({ counted, held, struck }) do
      if move ~= 0 then
        fields[#fields + 1], moves[#moves + 1] = KINDS[kind] .. candidate, move
      end
    end
  end

  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]
  call('XADD', keys[2], epoch .. '-*', 'e',
    pack(HEADER, layout, shard, epoch, campaign, number, now, seq + 1, #deltas / DELTA_SIZE, 0,
      decision) .. deltas)
  if new_epoch then
    call('HSET', keys[1], 'replid', replid, 'epoch', epoch, 'seq', seq, 'adjudicated', number)
  else
    call('HSET', keys[1], 'adjudicated', number)
  end
  -- One by one: a decision may name more candidates than one command takes words, and is rare.
  for i, field in ipairs(fields) do call('HINCRBY', keys[3], field, moves[i]) end
  return { APPLIED, number }
end

redis.register_function('adjudicate_@VERSION@', adjudicate)
