"""Pure functions from runs to findings: no I/O, no SQL, no clock.

`report.analyze(runs, now=…)` is the door. `run` reads one run as calls and errors; `failures`, `retries`, `repeats` and
`bottlenecks` count over many runs with memory bounded by distinct groups; `findings` ranks what they counted;
`recommend` says what to do about it.
"""
