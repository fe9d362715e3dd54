"""The Lua scripts of the locks: keys, arguments, and the meaning of each return value.

They keep the rules of all scripts: they use the server's time and never touch another client's token.
"""

from __future__ import annotations

import math
from typing import Final

from celeriac.store.keys import FENCE_SECONDS, WAITERS_SECONDS
from celeriac.store.script import Script

GRACE_MILLISECONDS: Final = 2_000
"""A waiter that has not fetched its hand-over after this time counts as dead."""

LONGEST_WAIT_SECONDS: Final = 30
"""Longest time between two requests of a waiter; the first in the line asks every second."""

_LOCKS: Final = f"""
-- The server's time, read only where it is needed: acquiring a free lock does not need it.
local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end
-- The fence grows with every acquisition. The counter starts at the server's clock in microseconds. So the fence also
-- grows after the counter has expired or was lost, because no lock is acquired a million times a second.
local function next_fence(key)
  local fence = redis.call('INCR', key)
  if fence > 1 then return string.format('%.0f', fence) end
  local clock = redis.call('TIME')
  redis.call('SET', key, clock[1] .. string.rep('0', 6 - #clock[2]) .. clock[2], 'EX', {FENCE_SECONDS})
  return redis.call('GET', key)
end
local function set_owner(key, token, timeout)
  if timeout == '0' then redis.call('SET', key, token) else redis.call('SET', key, token, 'PX', timeout) end
end
-- The entry of a token in the line, `<timeout ms>:<gives up at, ms, or 0>:<token>`, and its place from 1; else nil.
local function entry_of(waiters, token)
  for place, entry in ipairs(redis.call('LRANGE', waiters, 0, -1)) do
    if string.match(entry, '^%d+:%d+:(.*)$') == token then return entry, place end
  end
end
-- Hand the lock to the first waiter in the line. The waiter blocks in BLPOP on its inbox and finds its fence there,
-- without a second round trip. While the fence is still in the inbox, the waiter has not woken up; this is how other
-- clients detect that it is dead.
local function hand_over(name, fence, waiters, inboxes)
  while true do
    local entry = redis.call('LPOP', waiters)
    if not entry then
      redis.call('DEL', name)
      return
    end
    local timeout, give_up, token = string.match(entry, '^(%d+):(%d+):(.*)$')
    local now = milliseconds()
    if give_up == '0' or tonumber(give_up) > now then
      set_owner(name, token, timeout)
      redis.call('RPUSH', inboxes .. token, next_fence(fence) .. ':' .. string.format('%.0f', now))
      if timeout == '0' then
        redis.call('EXPIRE', inboxes .. token, {FENCE_SECONDS})
      else
        redis.call('PEXPIRE', inboxes .. token, timeout)
      end
      return
    end
  end
end
"""

ACQUIRE: Final = Script(
    "acquire",
    _LOCKS
    + f"""
-- Acquire a lock if it is free, else join its line of waiters. A second call with the same token, as a client makes
-- whose connection broke, changes nothing.
-- A lock counts as free in three cases: it has no owner; its owner is a waiter that was handed the lock and has not
-- fetched it from its inbox for a while (that waiter is dead); or its owner is a task whose delivery was given back
-- (its worker is dead, and the task runs again).
--
-- KEYS  lock, fence, waiters
-- ARGV  token; timeout in ms (0: none); 'try' to return at once, or 'wait' in the line; ms after which the caller
--       gives up (0: never); prefix of inboxes; prefix of the keys of deliveries that are over ('': do not check)
-- ->    the fence (string) if this token has the lock, now or already; 0 if it is not free and the caller does not
--       wait; else -(ms after which the caller should call again: the lock expires, its new owner counts as dead, or it
--       may have been deleted by hand, of which no waiter is notified: the first in the line checks after 1 s, the
--       second after 2 s, and so on)
local token, timeout, how, inboxes = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local is_free
if timeout == '0' then
  is_free = redis.call('SET', KEYS[1], token, 'NX')
else
  is_free = redis.call('SET', KEYS[1], token, 'NX', 'PX', timeout)
end
local wait
if not is_free then
  local owner = redis.call('GET', KEYS[1])
  if owner == token then
    local handed = redis.call('LPOP', inboxes .. token)
    return handed and string.match(handed, '^(%d+):') or redis.call('GET', KEYS[2])
  end
  local handed = redis.call('LINDEX', inboxes .. owner, 0)
  if handed then
    wait = tonumber(string.match(handed, ':(%d+)$')) + {GRACE_MILLISECONDS} - milliseconds()
  end
  local delivery = ARGV[6] ~= '' and string.match(owner, '@(%x+:%d+)$')
  if (wait and wait <= 0) or (delivery and redis.call('EXISTS', ARGV[6] .. delivery) == 1) then
    redis.call('DEL', inboxes .. owner)
    set_owner(KEYS[1], token, timeout)
    is_free = true
  end
end
local entry, place
if how == 'wait' then entry, place = entry_of(KEYS[3], token) end
if is_free then
  if entry then redis.call('LREM', KEYS[3], 1, entry) end
  return next_fence(KEYS[2])
end
if how == 'try' then return 0 end
if not entry then
  local give_up = ARGV[4] == '0' and '0' or string.format('%.0f', milliseconds() + tonumber(ARGV[4]))
  place = redis.call('RPUSH', KEYS[3], timeout .. ':' .. give_up .. ':' .. token)
end
redis.call('EXPIRE', KEYS[3], {WAITERS_SECONDS})
local look = math.min(place, {LONGEST_WAIT_SECONDS}) * 1000
local left = redis.call('PTTL', KEYS[1])
if left >= 0 then look = math.min(look, left) end
if wait then look = math.min(look, wait) end
return -math.max(look, 1)
""",
)

RELEASE: Final = Script(
    "release",
    _LOCKS
    + """
-- Release a lock and hand it to the first waiter in the line.
--
-- KEYS  lock, fence, waiters
-- ARGV  token; prefix of inboxes
-- ->    1, or 0 when this token does not have the lock (then nothing is changed)
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
hand_over(KEYS[1], KEYS[2], KEYS[3], ARGV[2])
return 1
""",
)

LEAVE: Final = Script(
    "leave",
    _LOCKS
    + """
-- Leave the line. If the lock was handed to this waiter at the same moment, it goes to the next one.
--
-- KEYS  lock, fence, waiters
-- ARGV  token; prefix of inboxes
-- ->    1 if the token was in the line, else 0
local entry = entry_of(KEYS[3], ARGV[1])
if entry then redis.call('LREM', KEYS[3], 1, entry) end
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', ARGV[2] .. ARGV[1])
  hand_over(KEYS[1], KEYS[2], KEYS[3], ARGV[2])
end
return entry and 1 or 0
""",
)

EXTEND: Final = Script(
    "extend",
    """
-- Extend a lock.
--
-- KEYS  lock
-- ARGV  token; ms; 'add' to the time that is left, or 'set' it
-- ->    1, or 0 if this token does not have the lock or the lock has no expiry
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local left = redis.call('PTTL', KEYS[1])
if left < 0 then return 0 end
local milliseconds = tonumber(ARGV[2])
if ARGV[3] == 'add' then milliseconds = milliseconds + left end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', milliseconds))
return 1
""",
)


def milliseconds(seconds: float | None) -> int:
    """Convert seconds to the milliseconds that the scripts expect, rounded up; 0 for `None`."""
    return 0 if seconds is None else math.ceil(seconds * 1000)
