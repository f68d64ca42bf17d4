"""The gateway: model calls of agents that know nothing of Leyden, forwarded as they are and recorded beside it.

One call, in the order of the files: `app` (the door it came in by, who it belongs to, whether it may), `upstreams` (where it goes, and
where else when that fails), `streams` (bytes to the client as they arrive), `capture` (what becomes of it in the store).
"""
