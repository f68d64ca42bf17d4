"""What `kill -9` of the server cannot take away: every span that was acknowledged."""

from faults.load import Load, Sender
from faults.processes import running, until


def test_every_acknowledged_span_survives_a_kill_and_a_full_replay_stores_each_once(
    database_url: str,
) -> None:
    with running(database_url) as server:
        load = Load(server.url, requests=100, spans=50)
        sender = Sender(load, server.url)
        until(lambda: len(sender.acknowledged) >= 40)
        server.kill()
        sender.join()
    acknowledged = load.all_span_ids(sender.acknowledged)
    assert 40 * 50 <= len(acknowledged) < 5000, "the kill came too late to prove anything"
    with running(database_url) as server:
        kept, _ = load.stored(server.url)
        assert acknowledged - set(kept) == set()
        again = Sender(load, server.url)
        again.join()
        assert len(again.acknowledged) == 100
        found, shared = load.stored(server.url)
        assert set(found) == load.all_span_ids()
        assert [span_id for span_id, times in found.items() if times > 1] == []
        assert shared == 0
        assert server.stop() == 0
    assert not [line for line in server.log if "Traceback" in line]
