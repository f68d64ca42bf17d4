"""How long reads take, with little and with much else stored: answers must depend on what is asked, not on the rest.

One client, one request at a time, over HTTP; the time includes about 0.1 ms of connection and generator.
"""

import uvloop

from bench import spans
from bench.figures import Report, Rounds, arguments, in_turn
from bench.load import API, Connection, Timings, each, ingest, open_attempts
from bench.servers import Server, running

ROLLOUT_SPANS = 1500
REQUESTS = 200


def main() -> None:
    args = arguments(
        __doc__,
        others={
            "type": int,
            "default": 20_000,
            "metavar": "N",
            "help": "other spans stored for the second half",
        },
        fill={"type": int, "default": 0, "metavar": "N", "help": "N more, in our server alone"},
    )
    requests = REQUESTS // (10 if args.quick else 1)
    others = args.others // (10 if args.quick else 1)
    report = Report("queries")
    with running(only=args.only) as servers:
        targets = {server.name: uvloop.run(one_rollout(server.port)) for server in servers}
        add(report, in_turn(servers, args.rounds, lambda s: measure(s, targets[s.name], requests)), "")
        for server in servers:
            number = others + (args.fill if server.name == "leyden" else 0)
            uvloop.run(ingest(server.port, spans=number, prepared=spans.bodies(512), connections=4))
        stored = f", {others + args.fill:,} other spans"
        add(report, in_turn(servers, args.rounds, lambda s: measure(s, targets[s.name], requests)), stored)
        if args.fill:
            report.notes.append(f"the peer held {others:,} other spans")
    report.finish(args)


def add(report: Report, rounds: Rounds, suffix: str) -> None:
    for name, key, bar in (
        ("20 spans of a rollout", "page", "1 ms"),
        (f"all {ROLLOUT_SPANS:,} spans of a rollout", "all", "10 ms"),
        ("20 rollouts", "rollouts", ""),
        ("one rollout by id", "rollout", ""),
    ):
        report.add(f"{name}{suffix}, p50", "ms", rounds, key, lower_is_better=True, bar=bar)


async def one_rollout(port: int) -> str:
    """Store a rollout of 1 500 spans; its id."""
    ((rollout_id, attempt_id),) = await open_attempts(port, 1)
    prepared = spans.bodies(100)
    connection = await Connection.open(port)
    for number in range(ROLLOUT_SPANS // 100):
        await connection.post_otlp(prepared[number % len(prepared)].fresh(rollout_id, attempt_id))
    connection.close()
    return rollout_id.decode()


def measure(server: Server, rollout_id: str, requests: int) -> dict[str, float]:
    """p50 of each query in ms."""
    queries = {
        "page": (f"{API}/spans?rollout_id={rollout_id}&limit=20", requests, 20),
        "all": (f"{API}/spans?rollout_id={rollout_id}", max(5, requests // 10), ROLLOUT_SPANS),
        "rollouts": (f"{API}/rollouts?limit=20", requests, 1),
        "rollout": (f"{API}/rollouts/{rollout_id}", requests, None),
    }
    return {key: uvloop.run(timed(server.port, *query)).percentile_ms(0.5) for key, query in queries.items()}


async def timed(port: int, path: str, requests: int, items: int | None) -> Timings:
    """Ask `requests` times; each answer must hold at least `items` items."""
    request = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    async def act(connection: Connection, _: int) -> int:
        await connection.ok(request)
        return 1

    connection = await Connection.open(port)
    answer = await connection.get(path)
    connection.close()
    if items is not None and len(answer["items"]) < items:
        raise RuntimeError(f"{path} answered {len(answer['items'])} items")
    return await each(port, 1, range(requests), act)


if __name__ == "__main__":
    main()
