"""The gateway: model calls of agents that know nothing of Leyden, forwarded as they are and recorded beside it.

One call meets the files in this order. `doors` and `identity`: where it came in and whose it is. `app`: whether it may (`limits`,
`hold`) and what the configuration sets (`config`, `deployments`, `outgoing`). `forward`: asked of an upstream (`routing`, `health`,
`upstreams`, `pool`, `answer`), in another protocol where needed (`translate`), handed on as it arrives (`streams`). `capture`: off the path, its
bytes are read (`decoding`, `wires`: one module for each protocol), become a span (`recording`, `conventions`) and go to the store.
"""
