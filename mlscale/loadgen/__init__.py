"""When to send, sending, and recording what happened (METHOD §1, §5, §6).

`schedules` draws send times (pure), `process` runs load workers from the parent's side, `worker` is the process that
sends, `stimulus` counts what was sent against what was due, `command` is ``mlscale load``.
"""
