"""What the scheduler decides, without doing any of it.

Sans-IO: `Scheduler.handle(event, now)` eats what happened and returns what to do. Nothing in here
waits, sends, stores, looks at a clock or rolls dice, so it is tested in milliseconds and replays a
bug report exactly.
"""

from __future__ import annotations
