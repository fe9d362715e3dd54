"""The Lua scripts of the delivery: keys, arguments, and the meaning of each return value."""

from __future__ import annotations

from typing import Final

from celeriac.store.keys import (
    LAYOUT_SECONDS,
    LINE_SECONDS,
    OVER_PREFIX,
    OVER_SECONDS,
    RENEWED_SECONDS,
    WORKERS_SECONDS,
)
from celeriac.store.script import Script

AT_ONCE: Final = 500
"""Members in one command of a script: Lua passes a function at most some 8,000 values."""

_SAY: Final = f"""
-- Write a worker's report; return '' or why that failed. Its key is not one of KEYS, and allowed to fail: a
-- server whose ACL forbids it must still deliver. A report that was overtaken by a newer one is dropped.
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
    + f"local OVER, AT_ONCE, LINE_SECONDS = '{OVER_PREFIX}', {AT_ONCE}, {LINE_SECONDS}"
    + """
-- Settle deliveries that have ended and take new messages, in one step: a worker that dies at any instruction has
-- either not taken a message, or it is held under a lease and is delivered again. One queue's error leaves the others
-- alone: a message leaves its list only after it is held.
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
--        {ids that were given back by somebody else meanwhile: their lease was lost},
--        {index of a queue (from 0), error, ... : queues that could not be taken from; -1: the line of workers},
--        index of the queue, number of the delivery id after the first (both from 0), message, ... for each taken}
local queues, others, most, lease = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local prefix, number, fair, look = ARGV[5], tonumber(ARGV[6]), ARGV[7] == 'fair', ARGV[8] == 'look'
local settled = tonumber(ARGV[9])
local lost, failed = {}, {}
local out = {0, lost, failed}
for i = 1, settled do
  local queue, id = tonumber(ARGV[8 + 2 * i]), ARGV[9 + 2 * i]
  redis.call('ZREM', KEYS[2 * queue], id)
  -- Given back by somebody else, or settled by an earlier call whose answer was not received.
  if redis.call('HDEL', KEYS[2 * queue - 1], id) == 0 and redis.pcall('EXISTS', OVER .. id) ~= 0 then
    lost[#lost + 1] = id
  end
end
NOW
local says = 10 + 2 * settled
if ARGV[says] then say(ARGV[says], string.sub(prefix, 1, -2), ARGV[says + 1], ARGV[says + 2], now, lease) end
if most == 0 or queues == 0 then return out end

local first = 2 * (queues + others) + 1
local line = KEYS[first]
local is_broken = {}
local function fail(queue, why)
  is_broken[queue] = true
  failed[#failed + 1] = queue - 1
  failed[#failed + 1] = why
end
-- Reading the lists is what makes a tracking connection learn of the next message.
local function is_empty()
  local found = 0
  for from = first + 1, #KEYS, AT_ONCE do
    found = found + redis.call('EXISTS', unpack(KEYS, from, math.min(from + AT_ONCE - 1, #KEYS)))
  end
  return found == 0
end
local function place()
  local rank = redis.pcall('ZRANK', line, prefix)
  if not rank then
    local added = redis.pcall('ZADD', line, now, prefix)
    if type(added) == 'table' then fail(0, added.err) else redis.pcall('EXPIRE', line, LINE_SECONDS) end
    rank = redis.pcall('ZRANK', line, prefix)
  end
  return 1 + (tonumber(rank) or 0)
end
if look and is_empty() then
  out[1] = place()
  return out
end

local due, taken, left = string.format('%.0f', now + lease), 0, most
-- Which queue each of the next messages of a priority comes from.
local function draw(priority)
  local has, order, found = {}, {}, true
  for queue = 1, queues do
    has[queue] = 0
    if not is_broken[queue] then
      local length = redis.pcall('LLEN', KEYS[first + priority * queues + queue])
      if type(length) == 'table' then fail(queue, length.err) else has[queue] = length end
    end
  end
  while found and #order < left do
    found = false
    for queue = 1, queues do
      while has[queue] > 0 and #order < left do
        has[queue], found = has[queue] - 1, true
        order[#order + 1] = queue
        if fair then break end
      end
    end
  end
  return order
end
local function move(queue, list, numbers)
  local held, leases, ids, pairs, scores = KEYS[2 * queue - 1], KEYS[2 * queue], {}, {}, {}
  local messages = redis.pcall('LRANGE', list, -#numbers, -1)
  local why = messages.err
  if not why then
    for i, at in ipairs(numbers) do
      local id = prefix .. string.format('%.0f', number + at)
      ids[i], pairs[2 * i - 1], scores[2 * i - 1], scores[2 * i] = id, id, due, id
      pairs[2 * i] = #list .. ':' .. list .. messages[#numbers + 1 - i]
    end
    -- A client that sends a call again must not overwrite what the first one has taken.
    local done = redis.pcall('HEXISTS', held, ids[1])
    if done == 1 then return fail(queue, 'ERR these delivery ids are in use') end
    if type(done) ~= 'table' then done = redis.pcall('HSET', held, unpack(pairs)) end
    if type(done) ~= 'table' then done = redis.pcall('ZADD', leases, unpack(scores)) end
    if type(done) ~= 'table' then done = redis.pcall('LTRIM', list, 0, -1 - #numbers) end
    why = type(done) == 'table' and done.err
    if why then
      redis.pcall('HDEL', held, unpack(ids))
      redis.pcall('ZREM', leases, unpack(ids))
    end
  end
  left = left - #numbers -- their numbers are used, whatever became of them
  if why then return fail(queue, why) end
  for i, at in ipairs(numbers) do
    out[#out + 1] = queue - 1
    out[#out + 1] = at
    out[#out + 1] = messages[#numbers + 1 - i]
  end
end

-- This removes nothing. Redis at maxmemory refuses the first write of a script if it may need memory, and no later one:
-- so what waits can be worked off, which frees memory.
redis.pcall('ZREM', line, '')
for priority = 0, (#KEYS - first) / queues - 1 do
  if left == 0 then break end
  local numbers, order = {}, draw(priority)
  for _, queue in ipairs(order) do
    local its = numbers[queue] or {}
    numbers[queue], its[#its + 1], taken = its, taken, taken + 1
  end
  for queue = 1, queues do
    if numbers[queue] then move(queue, KEYS[first + priority * queues + queue], numbers[queue]) end
  end
end
if #out > 3 then redis.pcall('ZREM', line, prefix) end -- a worker that got messages joins the end of the line again
if left > 0 then
  is_empty()
  out[1] = place()
end
return out
""",
)

RENEW: Final = Script(
    "renew",
    _SAY
    + f"""
-- Renew leases that one process holds. With a limit above 0, also find those of others that have run out, and write
-- down for the autoscaler what this worker says of itself. One queue's error leaves the others alone.
--
-- **Grace.** While Redis does not answer, or when its clock steps forward, the leases of healthy workers run out too,
-- and the first worker to come back must not take the others' messages. Each call therefore records when it renewed
-- leases of this length. When the record of some length is missing, or older than half of that length, nobody could
-- renew (each worker renews four times in a lease), and nothing counts as run out for another half of it. Record,
-- decision and renewal are one step, so a worker that is killed anywhere leaves either all of them behind or none.
--
-- KEYS  held, leases of each queue, then the lines of waiting workers of each queue, then the records of each queue
-- ARGV  lease in ms; most expired deliveries to return for each queue (0: only renew);
--       key of the pool's workers ('': it says nothing), this worker's identity, number and text of what it says,
--       key of the pool's layout record, the record;
--       then for each queue: count, ids
-- ->    {{{{ids that were not held any more: lost}},
--        {{index of the queue (from 0), id, end of its lease, held value, ... : expired}},
--        '' or why what this worker says could not be written,
--        {{index of the queue (from 0), error, ... : queues that could not be renewed}}}}
NOW
local lease, limit, workers, layout, refused = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[7], ''
-- Redis at maxmemory refuses the first write of a script if it may need memory, and no later one.
redis.pcall('ZREMRANGEBYSCORE', KEYS[#KEYS / 4 * 2 + 1], '-inf', string.format('%.0f', now - 60000))
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
    + f"""
local due, lost, expired, failed, at = string.format('%.0f', now + lease), {{}}, {{}}, {{}}, 9

local function renew(leases, first, last)
  for from = first, last, {AT_ONCE} do
    local to, pairs = math.min(from + {AT_ONCE - 1}, last), {{}}
    for i = from, to do pairs[#pairs + 1] = due pairs[#pairs + 1] = ARGV[i] end
    -- All of them changed: all were held. Else it is found out which were not.
    if redis.call('ZADD', leases, 'XX', 'CH', unpack(pairs)) < to - from + 1 then
      for i = from, to do
        if not redis.call('ZSCORE', leases, ARGV[i]) then lost[#lost + 1] = ARGV[i] end
      end
    end
  end
end

-- The end of the grace, in ms; 0 when there is none.
local function grace(record)
  local seen, till, own = redis.call('HGETALL', record), 0, tostring(lease)
  local length_of = {{[own] = -1}}
  for i = 1, #seen, 2 do
    if seen[i] == 'grace' then till = tonumber(seen[i + 1]) else length_of[seen[i]] = tonumber(seen[i + 1]) end
  end
  -- A clock that stepped back would make it last for long.
  local longest = lease
  for length, last in pairs(length_of) do
    local half = tonumber(length) / 2
    longest = math.max(longest, tonumber(length))
    if last < 0 or now - last > half then
      till = math.max(till, now + half)
      if length ~= own then redis.call('HDEL', record, length) end
    end
  end
  till = math.min(till, now + longest / 2)
  redis.call('HSET', record, own, string.format('%.0f', now), 'grace', string.format('%.0f', till))
  redis.call('PEXPIRE', record, {RENEWED_SECONDS * 1000} + 4 * longest)
  return till
end

local function look_after(queue)
  local queues = #KEYS / 4
  local held, leases = KEYS[2 * queue - 1], KEYS[2 * queue]
  local count = tonumber(ARGV[at])
  renew(leases, at + 1, at + count)
  if limit == 0 then return end
  -- A worker that died in the line is forgotten; one that lives joins it again with its next question.
  redis.call('ZREMRANGEBYSCORE', KEYS[2 * queues + queue], '-inf', string.format('%.0f', now - 60000))
  if grace(KEYS[3 * queues + queue]) > now then return end
  local found = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #found, 2 do
    local value = redis.call('HGET', held, found[i])
    if value then
      for _, part in ipairs({{queue - 1, found[i], found[i + 1], value}}) do expired[#expired + 1] = part end
    else
      redis.call('ZREM', leases, found[i])
    end
  end
end

for queue = 1, #KEYS / 4 do
  local done, why = pcall(look_after, queue)
  if not done then
    failed[#failed + 1] = queue - 1
    failed[#failed + 1] = type(why) == 'table' and why.err or tostring(why)
  end
  at = at + 1 + tonumber(ARGV[at])
end
return {{lost, expired, refused, failed}}
""",
)

_GIVE_BACK: Final = f"""
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
-- First of all writes: where the list's key has another type, nothing is taken away.
redis.call(ARGV[2] == 'front' and 'RPUSH' or 'LPUSH', KEYS[3], ARGV[3])
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
-- Not one of KEYS, and allowed to fail: a server whose ACL forbids this key must still take the message back.
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
-- As give-back, for a delivery of somebody else: only if its lease still ends when it was found to have ended. If the
-- owner has renewed it since, it is the owner's, even if an outage of Redis let the new lease run out as well.
--
-- KEYS  as give-back
-- ARGV  as give-back, then the end of the lease that was found
-- ->    as give-back
local due = redis.call('ZSCORE', KEYS[2], ARGV[1])
if due and tonumber(due) ~= tonumber(ARGV[4]) then return 0 end
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
-- ->    the id of the entry, or 0 when the id was not held any more
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
local entry = redis.call('XADD', KEYS[3], '*', unpack(ARGV, 2))
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
return entry
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
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
redis.call('LPUSH', KEYS[2], ARGV[2])
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
""",
)
