"""The Lua scripts of the delivery: keys, arguments, and the meaning of each return value."""

from __future__ import annotations

from typing import Final

from celeriac.store.keys import LAYOUT_SECONDS, OVER_PREFIX, OVER_SECONDS, WORKERS_SECONDS
from celeriac.store.script import Script

_SAY: Final = f"""
-- Write down what a worker says of itself; '' or why it could not. Its key is not one of KEYS, and allowed to fail: a
-- server whose ACL forbids it must deliver all the same. A word that was overtaken by a newer one is dropped.
local function say(key, worker, number, entry, now, lease)
  local known = redis.pcall('HGET', key, worker)
  if type(known) == 'table' then return known.err end
  local newest = known and string.match(known, '^%d+:(%d+):')
  if newest and tonumber(newest) > tonumber(number) then return '' end
  local due = string.format('%.0f', now + 2 * lease)
  local said = redis.pcall('HSET', key, worker, due .. ':' .. number .. ':' .. entry)
  if type(said) == 'table' then return said.err end
  redis.pcall('EXPIRE', key, {WORKERS_SECONDS})
  return ''
end
"""

TAKE: Final = Script(
    "take",
    _SAY
    + """
-- Settle deliveries that have ended and take new messages, in one step: a worker that dies at any instruction has
-- either not taken a message, or it is held under a lease and is delivered again.
--
-- KEYS  held, leases of each queue consumed (in the order of taking), then of each other queue to settle in,
--       then the line of waiting workers, then the queues' lists, all queues of the first priority first
-- ARGV  queues consumed; other queues; most messages to take (0: only settle); lease in ms;
--       prefix and first number of the new delivery ids; 'fair' (one from each queue in turn) or 'strict';
--       'look' first whether there is any message (the lists are thought empty: one command for all) or 'take';
--       number of deliveries to settle; for each: index of its queue (from 1), its id;
--       and, when some of these still run: key of the pool's workers, number and text of what this one says of itself
-- ->    {0, or 1 + the caller's place in the line (from 0) when every list was found empty: then a change of any is
--        announced to this connection, if it tracks,
--        {ids that were not held any more: their lease was lost},
--        index of the queue, index of the priority (both from 0), message, ... for each message taken}
local queues, others, most, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local prefix, number, fair, look = ARGV[5], tonumber(ARGV[6]), ARGV[7] == 'fair', ARGV[8] == 'look'
local settled = tonumber(ARGV[9])
local lost, out = {}, {0, {}}
for i = 1, settled do
  local queue, id = tonumber(ARGV[8 + 2 * i]), ARGV[9 + 2 * i]
  redis.call('ZREM', KEYS[2 * queue], id)
  if redis.call('HDEL', KEYS[2 * queue - 1], id) == 0 then lost[#lost + 1] = id end
end
out[2] = lost
local says = 10 + 2 * settled
if ARGV[says] then
NOW
  say(ARGV[says], string.sub(prefix, 1, -2), ARGV[says + 1], ARGV[says + 2], now, lease)
end
if most == 0 or queues == 0 then return out end

local line = KEYS[2 * (queues + others) + 1]
local first = 2 * (queues + others) + 1
-- Reading the lists is what makes a tracking connection hear of the next message.
local function is_empty() return redis.call('EXISTS', unpack(KEYS, first + 1)) == 0 end
local function place()
  local rank = redis.call('ZRANK', line, prefix)
  if not rank then
NOW
    redis.call('ZADD', line, now, prefix)
    rank = redis.call('ZRANK', line, prefix)
  end
  return 1 + rank
end
if look and is_empty() then
  out[1] = place()
  return out
end
local priorities = (#KEYS - first) / queues
local taken, due = 0
local function take(queue, priority)
  local list = KEYS[first + priority * queues + queue]
  local message = redis.call('RPOP', list)
  if not message then return false end
  if not due then
NOW
    due = string.format('%.0f', now + lease)
    redis.call('ZREM', line, prefix)
  end
  local id = prefix .. string.format('%.0f', number + taken)
  redis.call('HSET', KEYS[2 * queue - 1], id, #list .. ':' .. list .. message)
  redis.call('ZADD', KEYS[2 * queue], due, id)
  out[3 * taken + 3], out[3 * taken + 4], out[3 * taken + 5] = queue - 1, priority, message
  taken = taken + 1
  return true
end
for priority = 0, priorities - 1 do
  if fair then
    local found = true
    while found and taken < most do
      found = false
      for queue = 1, queues do
        if taken < most and take(queue, priority) then found = true end
      end
    end
  else
    for queue = 1, queues do
      while taken < most and take(queue, priority) do end
    end
  end
  if taken == most then return out end
end
is_empty()
out[1] = place()
return out
""",
)

RENEW: Final = Script(
    "renew",
    _SAY
    + f"""
-- Renew the leases that one process holds, find those of others that have run out, and write down for the autoscaler
-- what this worker says of itself.
--
-- KEYS  held, leases of each queue, then the lines of waiting workers of each queue
-- ARGV  lease in ms; most expired deliveries to return for each queue;
--       key of the pool's workers ('': it says nothing), this worker's identity, number and text of what it says,
--       key of the pool's layout record, the record;
--       then for each queue: count, ids
-- ->    {{{{ids that were not held any more: lost}}, {{index of the queue (from 0), id, held value, ... : expired}},
--        '' or why what this worker says could not be written}}
NOW
local lease, limit, workers, layout, refused = tonumber(ARGV[1]), ARGV[2], ARGV[3], ARGV[7], ''
if workers ~= '' then
  refused = say(workers, ARGV[4], ARGV[5], ARGV[6], now, lease)
  local entries = refused == '' and redis.pcall('HGETALL', workers) or {{}}
  for i = 1, #entries, 2 do
    local due = string.match(entries[i + 1], '^(%d+):')
    if not due or tonumber(due) < now then redis.pcall('HDEL', workers, entries[i]) end
  end
  -- Written only where it is not there yet: a Redis that was emptied has it again soon, and nothing else is disturbed.
  local left = redis.pcall('GET', layout) == ARGV[8] and redis.pcall('TTL', layout)
  if type(left) ~= 'number' or left < {LAYOUT_SECONDS // 2} then
    local said = redis.pcall('SET', layout, ARGV[8], 'EX', {LAYOUT_SECONDS})
    if said.err then refused = said.err end
  end
end
"""
    + """
local due = string.format('%.0f', now + lease)
local lost, expired, at = {}, {}, 9
for queue = 1, #KEYS / 3 do
  -- Who died in the line is forgotten; who lives joins it again with the next question.
  redis.call('ZREMRANGEBYSCORE', KEYS[#KEYS / 3 * 2 + queue], '-inf', string.format('%.0f', now - 60000))
  local held, leases = KEYS[2 * queue - 1], KEYS[2 * queue]
  local count = tonumber(ARGV[at])
  for i = at + 1, at + count do
    if redis.call('ZSCORE', leases, ARGV[i]) then
      redis.call('ZADD', leases, due, ARGV[i])
    else
      lost[#lost + 1] = ARGV[i]
    end
  end
  at = at + 1 + count
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, limit)) do
    local value = redis.call('HGET', held, id)
    if value then
      expired[#expired + 1] = queue - 1
      expired[#expired + 1] = id
      expired[#expired + 1] = value
    else
      redis.call('ZREM', leases, id)
    end
  end
end
return {lost, expired, refused}
""",
)

_GIVE_BACK: Final = f"""
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call(ARGV[2] == 'front' and 'RPUSH' or 'LPUSH', KEYS[3], ARGV[3])
-- Not one of KEYS, and allowed to fail: a server whose ACL forbids this key must take the message back all the same.
redis.pcall('SET', '{OVER_PREFIX}' .. ARGV[1], '', 'EX', {OVER_SECONDS})
return 1
"""

GIVE_BACK: Final = Script(
    "give-back",
    f"""
-- Put one held message back into its list, if it is still held under this id: of two that try, one does it. Locks that
-- the delivery's task took are free from then on.
--
-- KEYS  held, leases, list
-- ARGV  id; 'front' (delivered next) or 'back'; the message with this delivery written into it
-- ->    1, or 0 when the id was not held any more
{_GIVE_BACK}
""",
)

GIVE_BACK_EXPIRED: Final = Script(
    "give-back-expired",
    f"""
-- As give-back, for a delivery of somebody else: only if its lease has really run out by now.
--
-- KEYS, ARGV, -> as give-back
NOW
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if due and tonumber(due) > now then return 0 end
{_GIVE_BACK}
""",
)

DEAD_LETTER: Final = Script(
    "dead-letter",
    """
-- Move one held message to the dead-letter queue, if it is still held under this id.
--
-- KEYS  held, leases, dead
-- ARGV  id; then field, value, ... of the entry
-- ->    1, or 0 when the id was not held any more
if redis.call('HDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('XADD', KEYS[3], '*', unpack(ARGV, 2))
return 1
""",
)

REVIVE: Final = Script(
    "revive",
    """
-- Put one dead message back into a list.
--
-- KEYS  dead, list
-- ARGV  id of the entry; the message
-- ->    1, or 0 when the entry is gone
if redis.call('XDEL', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
return 1
""",
)
