"""Rollouts per second over HTTP: enqueue, claim, eight spans by OTLP, finish; and enqueue and claim each alone.

Eight clients, one rollout per request, as runners do it. Claims carry a worker id, as stock runners send one.
"""

import uvloop

from bench import spans
from bench.figures import Report, arguments, in_turn
from bench.load import API, Connection, each, json_request
from bench.servers import Server, running

CLIENTS = 8
CYCLES, ENQUEUES = 800, 2000

ENQUEUE = json_request(
    f"{API}/queues/rollouts/enqueue", {"rollouts": [{"input": {"task": "answer the question"}}]}
)


def main() -> None:
    args = arguments(
        __doc__,
        synchronous={
            "choices": ("NORMAL", "FULL"),
            "default": None,
            "help": "SQLite durability of our server",
        },
        scale={"type": float, "default": 1.0, "help": "multiply the rollouts per round"},
    )
    scale = args.scale / (10 if args.quick else 1)
    report = Report("cycle")
    with running(only=args.only, synchronous=args.synchronous) as servers:
        rounds = in_turn(servers, args.rounds, lambda server: cycles(server, int(CYCLES * scale)))
        report.add("full cycle", "rollouts/s", rounds, "rate", bar="6x")
        report.add("full cycle, per CPU-second", "rollouts", rounds, "per_cpu_s")
        report.add("full cycle, p99", "ms", rounds, "p99_ms", lower_is_better=True)
        rounds = in_turn(
            servers, args.rounds, lambda server: enqueue_then_claim(server, int(ENQUEUES * scale))
        )
        report.add("enqueue", "/s", rounds, "enqueue_rate")
        report.add("claim, 8 claimers", "/s", rounds, "claim_rate", bar="5,000")
        report.add("claim, p50", "ms", rounds, "claim_p50_ms", lower_is_better=True)
        report.add("claim, p99", "ms", rounds, "claim_p99_ms", lower_is_better=True, bar="5 ms")
    report.finish(args)


def cycles(server: Server, number: int) -> dict[str, float]:
    prepared = spans.bodies(8)

    async def act(connection: Connection, index: int) -> int:
        await connection.ok(ENQUEUE)
        (rollout,) = await connection.post(
            f"{API}/queues/rollouts/dequeue", {"limit": 1, "worker_id": f"worker-{index % CLIENTS}"}
        )
        rollout_id, attempt_id = rollout["rollout_id"], rollout["attempt"]["attempt_id"]
        body = prepared[index % len(prepared)].fresh(rollout_id.encode(), attempt_id.encode())
        await connection.post_otlp(body)
        finished = json_request(f"{API}/rollouts/{rollout_id}/attempts/{attempt_id}", {"status": "succeeded"})
        await connection.ok(finished)
        return 1

    before = server.cpu_s()
    timings = uvloop.run(each(server.port, CLIENTS, range(number), act))
    return {
        "rate": timings.rate,
        "per_cpu_s": timings.done / max(server.cpu_s() - before, 1e-9),
        "p99_ms": timings.percentile_ms(0.99),
    }


def enqueue_then_claim(server: Server, number: int) -> dict[str, float]:
    """Put `number` rollouts on the queue one by one, then take them one by one."""

    async def enqueue(connection: Connection, _: int) -> int:
        await connection.ok(ENQUEUE)
        return 1

    async def claim(connection: Connection, index: int) -> int:
        taken = await connection.post(
            f"{API}/queues/rollouts/dequeue", {"limit": 1, "worker_id": f"worker-{index % CLIENTS}"}
        )
        if len(taken) != 1:
            raise RuntimeError(f"a claim on a full queue brought {len(taken)} rollouts")
        return 1

    put = uvloop.run(each(server.port, CLIENTS, range(number), enqueue))
    taken = uvloop.run(each(server.port, CLIENTS, range(number), claim))
    return {
        "enqueue_rate": put.rate,
        "claim_rate": taken.rate,
        "claim_p50_ms": taken.percentile_ms(0.5),
        "claim_p99_ms": taken.percentile_ms(0.99),
    }


if __name__ == "__main__":
    main()
