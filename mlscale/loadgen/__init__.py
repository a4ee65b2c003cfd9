"""The load generator: schedules, sending and recording (METHOD §1, §5, §6).

`spec` says what a load is, `schedules` draws send times (pure), `process` controls the load workers, `worker` is the
process that sends, `stimulus` compares what was sent with what was due.
"""
