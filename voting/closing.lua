#!lua name=dianzan_closing_@VERSION@
-- One shard's end of a campaign: an entry behind which its journal has no like of that campaign, and
-- a field of the head that the ballot box reads with every batch. And the way back.
--
-- KEYS (all under one hash tag; bytes and field names are drawn in journal.py)
--   1 head       hash    replid, epoch, seq; closed:<campaign number>
--   2 journal    stream  gets one entry
-- ARGV
--   1 order      packed: ORDER below
-- Answer: {status, id of the entry}. Closing what is closed and opening what is open is DONE already
-- and leaves no entry; so whoever comes back after a crash may ask again. EARLY: by this server's
-- clock the moment has not come, and until then likes are taken.
--
-- A crash: the function runs whole or not at all, and its writes reach the AOF as one transaction.
-- The journal is written first: if that is refused, nothing else has happened.

local APPLIED, DONE, EARLY = 0, 1, 2

local EPOCH_MAX = 65535
local ORDER = '>BBHHBI8'          -- layout, shard, epoch floor, campaign, closed, not before
local HEADER = '>BBHHI4I8I8HH'    -- of the entry

local function close(keys, args)
  local call, pack = redis.call, struct.pack
  local layout, shard, epoch_floor, campaign, closed, not_before = struct.unpack(ORDER, args[1])
  local field = 'closed:' .. campaign

  local head = call('HMGET', keys[1], 'replid', 'epoch', 'seq', field)
  local epoch, seq, closed_by = tonumber(head[2]) or 0, tonumber(head[3]) or 0, head[4]
  if closed == 1 and closed_by then return { DONE, closed_by } end
  if closed == 0 and not closed_by then return { DONE, '' } end
  local time = call('TIME')
  local now = time[1] * 1000000 + time[2]
  if now < not_before then return { EARLY, '' } end

  -- Another server, or this one started anew: a new epoch, as in `cast`.
  local replid = string.match(call('INFO', 'replication'), 'master_replid:(%x+)')
  local new_epoch = head[1] ~= replid
  if new_epoch then
    epoch = math.max(epoch, epoch_floor) + 1
    if epoch > EPOCH_MAX then
      return redis.error_reply('EPOCHS the journal has no epoch left: begin a new shard')
    end
  end

  local id = call('XADD', keys[2], epoch .. '-*', 'e',
    pack(HEADER, layout, shard, epoch, campaign, closed, now, seq + 1, 0, 0))
  if new_epoch then call('HSET', keys[1], 'replid', replid, 'epoch', epoch, 'seq', seq) end
  if closed == 1 then
    call('HSET', keys[1], field, id)
  else
    call('HDEL', keys[1], field)
  end
  return { APPLIED, id }
end

redis.register_function('close_@VERSION@', close)
