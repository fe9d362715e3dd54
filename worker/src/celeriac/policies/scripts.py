"""The Lua scripts of the policies: keys, arguments, and the meaning of each return value.

They keep the rules of all scripts: they use the server's time, never touch another call's value, and never decode
messages. In addition, each script may run twice: a client whose connection broke before the reply arrived asks again,
and the second run must not publish anything again. If a message is pushed to a list whose name was recorded earlier,
that list is not among the keys; this works because the broker is one server.
"""

from __future__ import annotations

from typing import Final

from celeriac.store.keys import BURST_SECONDS, COVERED_SECONDS
from celeriac.store.script import Script

FORGET: Final = Script(
    "forget",
    """
-- Delete a key if it holds this value.
--
-- KEYS  key
-- ARGV  value
-- ->    1, or 0 when it holds something else or nothing
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

RENEW: Final = Script(
    "renew-claim",
    """
-- Let a key live so many milliseconds from now, if it holds this value and would not live longer anyway.
--
-- KEYS  key
-- ARGV  value; ms
-- ->    1, or 0 when it holds something else or nothing
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return 1
""",
)

HOLD: Final = Script(
    "hold",
    """
-- Keep a claim for a call that is published again under its own id (a retry, a call that was put back).
--
-- KEYS  claim
-- ARGV  new value; ms; then the values that are this call's
-- ->    1, or 0 when the claim is another call's
local value = redis.call('GET', KEYS[1])
local is_own = not value
for i = 3, #ARGV do is_own = is_own or value == ARGV[i] end
if not is_own then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
""",
)

_REVOKED: Final = """
-- Whether a worker was told that a call is revoked. `prefix` is what such keys begin with; '': do not look.
local function is_revoked(prefix, id) return prefix ~= '' and redis.call('EXISTS', prefix .. id) == 1 end
"""

LOOK: Final = Script(
    "look",
    f"""
{_REVOKED}
-- Ask who has a claim; a call may prolong it.
--
-- KEYS  claim
-- ARGV  ms that the claim lasts from now on (0: as long as it would); what keys of revoked calls begin with
-- ->    the value that stands, or nothing: nobody has the claim, or a call has it that waits and is revoked
local value = redis.call('GET', KEYS[1])
if not value then return false end
if string.sub(value, 1, 2) == 'q:' and is_revoked(ARGV[2], string.sub(value, 3)) then return false end
if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
return value
""",
)

CLAIM: Final = Script(
    "claim",
    f"""
{_REVOKED}
-- Publish a call if nobody has the claim; claim and message are written in one step, so that no crash can leave one
-- without the other.
--
-- KEYS  claim; queued; then the list of each message
-- ARGV  value of the claim; ms; id to note as queued ('': note nothing); what keys of revoked calls begin with; then
--       the message for each list
-- ->    the value that stands: the own one when the call was published now (or before)
local value = redis.call('GET', KEYS[1])
if value and not (string.sub(value, 1, 2) == 'q:' and is_revoked(ARGV[4], string.sub(value, 3))) then return value end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '' then
  redis.call('SADD', KEYS[2], ARGV[3])
  redis.call('EXPIRE', KEYS[2], {COVERED_SECONDS})
end
for i = 3, #KEYS do redis.call('LPUSH', KEYS[i], ARGV[i + 2]) end
return ARGV[1]
""",
)

UNIQUE_START: Final = Script(
    "unique-start",
    f"""
{_REVOKED}
-- May a unique call run, now that a worker has its message?
--
-- Timeline of a message that waits longer than its claim stands:
--   call A: claim q:A, queued A ... the claim expires ... call B: claim q:B, queued A and B
--   whichever starts first covers the other, which was called before that start and does not run
--
-- KEYS  claim, covered, queued
-- ARGV  id; ms that the claim of a run lasts without renewal (0: the claim ends now); what keys of revoked calls begin
--       with
-- ->    0: run; -1: another run has done its work; -2: it is revoked; else ms that the claim of another run lasts
if redis.call('SREM', KEYS[2], ARGV[1]) == 1 then return -1 end
local value = redis.call('GET', KEYS[1])
local phase, id = string.sub(value or '', 1, 2), string.sub(value or '', 3)
if id ~= ARGV[1] then
  if is_revoked(ARGV[3], ARGV[1]) then
    redis.call('SREM', KEYS[3], ARGV[1])
    return -2
  end
  if phase == 'r:' then return math.max(redis.call('PTTL', KEYS[1]), 1) end
  if phase == 'q:' then redis.call('SADD', KEYS[2], id) end
end
redis.call('SREM', KEYS[3], ARGV[1])
for _, other in ipairs(redis.call('SMEMBERS', KEYS[3])) do redis.call('SADD', KEYS[2], other) end
redis.call('DEL', KEYS[3])
redis.call('EXPIRE', KEYS[2], {COVERED_SECONDS})
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'r:' .. ARGV[1], 'PX', ARGV[2])
end
return 0
""",
)

UNIQUE_ABANDON: Final = Script(
    "unique-abandon",
    """
-- A worker has dropped the message of a unique call.
--
-- KEYS  claim, covered, queued
-- ARGV  id
-- ->    1 when the claim was this call's, else 0
redis.call('SREM', KEYS[2], ARGV[1])
redis.call('SREM', KEYS[3], ARGV[1])
local value = redis.call('GET', KEYS[1])
if value ~= 'q:' .. ARGV[1] and value ~= 'r:' .. ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)

DEBOUNCE: Final = Script(
    "debounce",
    f"""
{_REVOKED}
-- Write down a call of a burst, and see to it that a waker is on its way.
--
-- A waker is a message with an ETA. When it comes up, the burst's newest message is published if the burst is due.
-- `look` is when it ought to have come up; a call that finds it overdue sends another.
--
-- KEYS  burst, list of the waker
-- ARGV  id of the burst as the caller knows it; quiet ms; longest ms (0: none); list of the message; the message;
--       the waker's token; the waker ('': not made yet); ms that a waker may be late; the call's own id; what keys of
--       revoked calls begin with
-- ->    1: written down; 'waker': make one and ask again; 'burst <id>': the burst is another one, ask again with it
NOW
local id = redis.call('HGET', KEYS[1], 'id')
if id and is_revoked(ARGV[10], id) then
  -- A worker drops its message and stores that it is revoked, as that of any other revoked call.
  redis.call('LPUSH', redis.call('HGET', KEYS[1], 'list'), redis.call('HGET', KEYS[1], 'message'))
  redis.call('DEL', KEYS[1])
  id = false
end
-- A burst that fired since the caller asked for its id is over: the call begins one of its own.
local expected = id or ARGV[9]
if expected ~= ARGV[1] then return 'burst ' .. expected end
local first = id and tonumber(redis.call('HGET', KEYS[1], 'first')) or now
local due = now + tonumber(ARGV[2])
if ARGV[3] ~= '0' then due = math.min(due, first + tonumber(ARGV[3])) end
local look = id and tonumber(redis.call('HGET', KEYS[1], 'look')) or 0
if look < now then
  if ARGV[7] == '' then return 'waker' end
  redis.call('LPUSH', KEYS[2], ARGV[7])
  redis.call('HSET', KEYS[1], 'waker', ARGV[6], 'look', string.format('%.0f', due + tonumber(ARGV[8])))
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'first', string.format('%.0f', first), 'due', string.format('%.0f', due),
  'list', ARGV[4], 'message', ARGV[5])
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', due - now + {BURST_SECONDS * 1000}))
return 1
""",
)

FIRE: Final = Script(
    "fire",
    """
-- A waker has come up: publish the burst's newest message if it is due. It has waited, so it is the next to be taken.
--
-- KEYS  burst
-- ARGV  the waker's token; ms that a waker may be late
-- ->    0: published; -1: this waker has no burst (any more); else ms until the burst is due
NOW
local burst = redis.call('HMGET', KEYS[1], 'waker', 'due', 'list', 'message')
if burst[1] ~= ARGV[1] then return -1 end
local due = tonumber(burst[2])
if due > now then
  redis.call('HSET', KEYS[1], 'look', string.format('%.0f', due + tonumber(ARGV[2])))
  return due - now
end
redis.call('RPUSH', burst[3], burst[4])
redis.call('DEL', KEYS[1])
return 0
""",
)

COALESCE: Final = Script(
    "coalesce",
    f"""
{_REVOKED}
-- Write down a call as the one that waits, and see to it that a message of it is on its way.
--
-- `ticket` is the mark of that message: the call's own when nothing runs, else that of a guard, a message with an ETA
-- that comes up if the run should end without a word (its worker was killed). `look` is when it counts as lost.
--
-- KEYS  waiting, running, list of the message and the guard
-- ARGV  id of the waiting call as the caller knows it; its mark; message; ms that it may take to come up;
--       the guard's mark; the guard ('': not made yet); ms that the guard may take to come up; the call's own id; ms
--       after which it expires (0: never); what keys of revoked calls begin with
-- ->    1: written down; 'guard': make one and ask again; 'call <id>': another one waits, ask again with its id
NOW
local id = redis.call('HGET', KEYS[1], 'id')
local ends = tonumber(redis.call('HGET', KEYS[1], 'ends') or 0)
if id and (is_revoked(ARGV[10], id) or (ends > 0 and ends <= now)) then
  redis.call('DEL', KEYS[1])
  id = false
end
-- A call that has begun since the caller asked for its id does not wait any more: this one waits under its own.
local expected = id or ARGV[8]
if expected ~= ARGV[1] then return 'call ' .. expected end
local look = id and tonumber(redis.call('HGET', KEYS[1], 'look')) or 0
if look < now then
  local ticket, message, patience = ARGV[2], ARGV[3], ARGV[4]
  if redis.call('EXISTS', KEYS[2]) == 1 then
    if ARGV[6] == '' then return 'guard' end
    ticket, message, patience = ARGV[5], ARGV[6], ARGV[7]
  end
  redis.call('LPUSH', KEYS[3], message)
  redis.call('HSET', KEYS[1], 'ticket', ticket, 'look', string.format('%.0f', now + tonumber(patience)))
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'mark', ARGV[2], 'list', KEYS[3], 'message', ARGV[3], 'patience', ARGV[4],
  'ends', ARGV[9] == '0' and '0' or string.format('%.0f', now + tonumber(ARGV[9])))
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', tonumber(ARGV[4]) + {BURST_SECONDS * 1000}))
return 1
""",
)

_TICKETS: Final = """
local waiting = redis.call('HMGET', KEYS[1], 'ticket', 'mark', 'list', 'message', 'patience')
local function is_guard(mark) return mark and string.sub(mark, 1, 6) == 'guard:' end
-- The newest message becomes its own ticket.
local function publish(push)
  redis.call(push, waiting[3], waiting[4])
  local look = string.format('%.0f', now + tonumber(waiting[5]))
  redis.call('HSET', KEYS[1], 'ticket', waiting[2], 'look', look)
end
"""

COALESCE_START: Final = Script(
    "coalesce-start",
    f"""
-- May a coalesced call run, now that a worker has its message?
--
-- A run is known by the mark of its message and its id, so that another message with the same id is another run.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the message, with a space between; mark; ms that a run lasts without renewal
-- ->    0: run; -1: there is nothing to do for this message; -2: a newer message was published in its place;
--       else 'wait <ms>': another one runs, publish this message again; 'guard <ms>': again, as a guard
NOW
{_TICKETS}
local is_ticket = waiting[1] == ARGV[2]
if is_guard(ARGV[2]) and not is_ticket then return -1 end
local runs = redis.call('GET', KEYS[2])
if runs and runs ~= ARGV[1] then
  local left = math.max(redis.call('PTTL', KEYS[2]), 1)
  if not is_ticket then return 'wait ' .. string.format('%.0f', left) end
  local look = string.format('%.0f', now + left + tonumber(waiting[5]))
  redis.call('HSET', KEYS[1], 'look', look, 'ticket', 'guard:' .. string.match(ARGV[2], ':(.*)$'))
  return 'guard ' .. string.format('%.0f', left)
end
if is_ticket and waiting[2] ~= ARGV[2] then
  publish('RPUSH')
  return -2
end
if is_ticket then redis.call('DEL', KEYS[1]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[3])
return 0
""",
)

COALESCE_END: Final = Script(
    "coalesce-end",
    f"""
-- A coalesced run has ended: publish the call that waits for it.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the run
-- ->    1 when a call was published, 0 when none waited or the run was not this call's (any more)
NOW
{_TICKETS}
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[2])
if not is_guard(waiting[1]) then return 0 end
publish('LPUSH')
return 1
""",
)

COALESCE_ABANDON: Final = Script(
    "coalesce-abandon",
    f"""
-- A worker has dropped the message of a coalesced call as revoked or expired, or has ended its run.
--
-- A message that has expired may stand for a newer one, which has not: that one is published in its place. A revoked
-- call is revoked as a whole, since all calls that wait have its id.
--
-- KEYS  waiting, running
-- ARGV  mark and id of the message; mark; id; '1' when it has expired
-- ->    1 when something was ended, forgotten or published, else 0
NOW
{_TICKETS}
local ended = 0
if redis.call('GET', KEYS[2]) == ARGV[1] then
  ended = redis.call('DEL', KEYS[2])
  if is_guard(waiting[1]) then publish('LPUSH') end
end
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[3] then return ended end
if ARGV[4] == '1' and waiting[2] ~= ARGV[2] then
  if waiting[1] ~= ARGV[2] then return ended end
  publish('RPUSH')
  return 1
end
return redis.call('DEL', KEYS[1])
""",
)
