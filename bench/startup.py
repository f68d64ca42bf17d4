"""Seconds from the command to the first answer: `leyden up` on a fresh database and on one that exists; `agl store`."""

from bench.figures import Report, Rounds, arguments
from bench.servers import LOAD_CORE, Server, peer_python, pin, scratch, start_leyden, start_peer


def main() -> None:
    args = arguments(__doc__)
    pin(LOAD_CORE)
    fresh, again = Rounds(), Rounds()
    for _ in range(args.rounds):
        if args.only != "peer":
            with scratch() as folder:
                note(fresh, start_leyden(folder))
                note(again, start_leyden(folder))
        if args.only != "leyden" and peer_python():
            with scratch() as folder:
                peer = start_peer(folder)
                note(fresh, peer)
    report = Report("startup")
    bar = "1.5 s"
    report.add("to the first answer, fresh database", "s", fresh, "started_s", lower_is_better=True, bar=bar)
    report.add(
        "to the first answer, existing database", "s", again, "started_s", lower_is_better=True, bar=bar
    )
    report.add("CPU until then, fresh database", "s", fresh, "cpu_s", lower_is_better=True)
    report.add("CPU until then, existing database", "s", again, "cpu_s", lower_is_better=True)
    report.add("resident memory when idle", "MB", fresh, "rss_mb", lower_is_better=True)
    report.finish(args)


def note(rounds: Rounds, server: Server) -> None:
    """Write down how the server started, and stop it."""
    values = {"started_s": server.started_s, "rss_mb": server.rss_mb(), "cpu_s": server.cpu_s()}
    rounds.measured.setdefault(server.name, []).append(values)
    server.stop()


if __name__ == "__main__":
    main()
