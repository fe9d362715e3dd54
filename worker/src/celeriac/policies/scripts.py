"""The Lua scripts of the policies: keys, arguments, and the meaning of each return value.

The rules are those of all scripts: server time, nobody else's value is touched, messages are never decoded. In
addition each of them may run twice: a client whose connection broke before the answer came asks again, and that must
publish nothing a second time. Where a message is pushed to a list whose name was written down earlier, that list is not
among the keys: it is in the broker, which is one server.
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

CLAIM: Final = Script(
    "claim",
    """
-- Publish a call if nobody has the claim; claim and message are written in one step, so that no crash can leave one
-- without the other.
--
-- KEYS  claim, then the list of each message
-- ARGV  value of the claim; ms; then the message for each list
-- ->    the value that stands: the own one when the call was published now (or before)
local value = redis.call('GET', KEYS[1])
if value then return value end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
for i = 2, #KEYS do redis.call('LPUSH', KEYS[i], ARGV[i + 1]) end
return ARGV[1]
""",
)

UNIQUE_START: Final = Script(
    "unique-start",
    f"""
-- May a unique call run, now that a worker has its message?
--
-- Timeline of a message that waits longer than its claim stands:
--   call A: claim q:A ... the claim runs out ... call B: claim q:B, published ...
--   A starts: B is covered, claim r:A ... B's message comes: covered, does not run
--
-- KEYS  claim, covered
-- ARGV  id; ms that the claim of a run lasts without renewal (0: the claim ends now)
-- ->    0: run; -1: its work was taken on by another run; else ms that the claim of another run lasts
if redis.call('SREM', KEYS[2], ARGV[1]) == 1 then return -1 end
local value = redis.call('GET', KEYS[1])
if value then
  local phase, id = string.sub(value, 1, 2), string.sub(value, 3)
  if id ~= ARGV[1] then
    if phase == 'r:' then return math.max(redis.call('PTTL', KEYS[1]), 1) end
    redis.call('SADD', KEYS[2], id)
    redis.call('EXPIRE', KEYS[2], {COVERED_SECONDS})
  end
end
if ARGV[2] == '0' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], 'r:' .. ARGV[1], 'PX', ARGV[2])
end
return 0
""",
)

DEBOUNCE: Final = Script(
    "debounce",
    f"""
-- Write down a call of a burst, and see to it that a waker is on its way.
--
-- A waker is a message with an ETA. When it comes up, the burst's newest message is published if the burst is due.
-- `look` is when it ought to have come up; a call that finds it overdue sends another.
--
-- KEYS  burst, list of the waker
-- ARGV  id of the burst as the caller knows it; quiet ms; longest ms (0: none); list of the message; the message;
--       the waker's token; the waker ('': not made yet); ms that a waker may be late
-- ->    1: written down; 'waker': make one and ask again; 'burst <id>': the burst is another one, ask again with it
NOW
local id = redis.call('HGET', KEYS[1], 'id')
if id and id ~= ARGV[1] then return 'burst ' .. id end
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
-- Write down a call as the one that waits, and see to it that a message of it is on its way.
--
-- `ticket` is the mark of that message: the call's own when nothing runs, else that of a guard, a message with an ETA
-- that comes up if the run should end without a word (its worker was killed). `look` is when it counts as lost.
--
-- KEYS  waiting, running, list of the message and the guard
-- ARGV  id of the waiting call as the caller knows it; its mark; message; ms that it may take to come up;
--       the guard's mark; the guard ('': not made yet); ms that the guard may take to come up
-- ->    1: written down; 'guard': make one and ask again; 'call <id>': another one waits, ask again with its id
NOW
local id = redis.call('HGET', KEYS[1], 'id')
if id and id ~= ARGV[1] then return 'call ' .. id end
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
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'mark', ARGV[2], 'list', KEYS[3], 'message', ARGV[3], 'patience', ARGV[4])
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
-- KEYS  waiting, running
-- ARGV  id; mark; ms that a run lasts without renewal
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
-- ARGV  id
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

ABANDON: Final = Script(
    "abandon",
    """
-- Forget a waiting call whose message was revoked or has expired.
--
-- KEYS  waiting
-- ARGV  id
-- ->    1, or 0 when it is another one
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
""",
)
