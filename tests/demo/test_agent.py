"""The agent: it talks to any OpenAI-compatible server, tells the model what tools refuse, and works untraced."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

import leyden
from leyden.demo import scripted_model
from leyden.demo.agent import SEED_PROMPT, Agent, ModelError, NotHandled, chat_over_http, render
from leyden.demo.desk import Desk
from leyden.demo.rules import check, rooms_that_will_do
from leyden.demo.scripted_model import complete
from leyden.demo.world import tasks
from leyden.errors import BadInput


@pytest.fixture(scope="module")
def base_url():
    with scripted_model.serve() as url:
        yield url


@contextmanager
def model_that_answers(*answers):
    """An HTTP server that gives these (status, body) answers in turn, the last one for ever; yields (url, requests)."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            status, body = answers[min(len(asked), len(answers)) - 1]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def says(text=None, *calls):
    """The body of an answer that says this, or calls these (name, arguments as text)."""
    tool_calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for n, (name, arguments) in enumerate(calls)
    ]
    message = {"role": "assistant", "content": text, **({"tool_calls": tool_calls} if calls else {})}
    return 200, json.dumps({"choices": [{"index": 0, "message": message}]}).encode()


def rewards(agent, count=20):
    with ThreadPoolExecutor(8) as pool:
        return [handled.reward for handled in pool.map(agent.handle, tasks(count))]


@pytest.mark.parametrize("stream", [False, True])
def test_over_http_plain_or_streamed_the_agent_earns_what_it_earns_in_process(base_url, stream):
    with httpx.Client() as client:
        remote = Agent(chat_over_http(client, base_url=base_url, stream=stream), model=scripted_model.MODEL)
        earned = rewards(remote)
    assert earned == rewards(Agent(complete, model=scripted_model.MODEL))
    assert 0.2 < sum(earned) / 20 < 0.95


def test_with_tracing_switched_off_the_agent_earns_the_same_and_leaves_no_trace(monkeypatch, tmp_path):
    agent = Agent(complete, model=scripted_model.MODEL)
    before = rewards(agent)
    monkeypatch.setenv("LEYDEN_ENABLED", "0")
    monkeypatch.setenv("LEYDEN_SPOOL_DIR", str(tmp_path))
    leyden.init("http://127.0.0.1:9")
    try:
        assert rewards(agent) == before
        assert leyden.flush(0.1)
    finally:
        leyden.shutdown()
    assert list(tmp_path.iterdir()) == []


def test_a_tool_that_refuses_is_told_to_the_model_and_does_not_end_the_conversation():
    bad_calls = [
        ("check_calendar", '{"room_id": "oak", "date": "4 May 2026"}'),
        ("book_room", "not json"),
        ("book_room", "[1]"),
        ("open_door", ""),
    ]
    with model_that_answers(says(None, *bad_calls), says("Sorry.")) as (url, asked), httpx.Client() as client:
        said = Agent(chat_over_http(client, base_url=url), model="m").converse(Desk(tasks(1)[0]))
    assert said == "Sorry."
    assert [json.loads(message["content"])["error"] for message in asked[1]["messages"][3:]] == [
        "date must be YYYY-MM-DD, got '4 May 2026'",
        "the arguments of book_room are not JSON",
        "the arguments of book_room must be a JSON object",
        "there is no tool 'open_door'; the tools are search_rooms, check_calendar, book_room, cancel_booking, "
        "join_waitlist, send_confirmation",
    ]


def test_several_tool_calls_in_one_answer_are_all_done_in_order():
    task = next(task for task in tasks(50) if rooms_that_will_do(task))
    when = {"date": task.date, "start": task.start, "end": task.end, "people": task.people}
    book = {"room_id": rooms_that_will_do(task)[0].room_id, **when, "title": "Meeting"}
    confirm = {"to": task.email, "reference": "bk-1", "text": "Booked."}
    calls = says(None, ("book_room", json.dumps(book)), ("send_confirmation", json.dumps(confirm)))
    desk = Desk(task)
    with model_that_answers(calls, says("Done.")) as (url, _), httpx.Client() as client:
        Agent(chat_over_http(client, base_url=url), model="m").converse(desk)
    assert check(desk).reward == 1.0


def test_a_model_that_never_stops_calling_is_stopped_after_max_turns():
    with model_that_answers(says(None, ("search_rooms", "{}"))) as (url, asked), httpx.Client() as client:
        handled = Agent(chat_over_http(client, base_url=url), model="m", max_turns=4).handle(tasks(1)[0])
    assert len(asked) == 4
    assert isinstance(handled.failure, NotHandled)


def test_a_request_left_undone_fails_with_no_reward():
    with model_that_answers(says("No.")) as (url, _), httpx.Client() as client:
        handled = Agent(chat_over_http(client, base_url=url), model="m").handle(tasks(1)[0])
    assert (handled.reward, type(handled.failure)) == (0.0, NotHandled)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, b'{"error": {"message": "bad key"}}'), "answered 401"),
        ((200, b"<html>"), "not JSON"),
        ((200, b"[]"), "without a choice"),
        ((200, b'{"choices": []}'), "without a choice"),
    ],
)
def test_a_model_endpoint_that_fails_is_named_in_one_error(answer, message):
    with model_that_answers(answer) as (url, asked), httpx.Client() as client:
        handled = Agent(chat_over_http(client, base_url=url), model="m").handle(tasks(1)[0])
    assert isinstance(handled.failure, ModelError)
    assert message in handled.failure.message
    assert url in handled.failure.message
    assert len(asked) == 1


def test_no_model_at_the_address_is_an_error_that_names_the_address():
    with (
        httpx.Client() as client,
        pytest.raises(ModelError, match="no answer from the model at http://127"),
    ):
        chat_over_http(client, base_url="http://127.0.0.1:9/v1")({"messages": []})


@pytest.mark.parametrize("stream", [False, True])
def test_an_overloaded_model_is_asked_again_a_few_times(stream):
    busy = (429, b"slow down")
    with model_that_answers(busy, busy, busy) as (url, asked), httpx.Client() as client:
        chat = chat_over_http(client, base_url=url, stream=stream, pauses_s=(0.0, 0.0))
        with pytest.raises(ModelError, match="answered 429: slow down"):
            chat({"messages": []})
        assert len(asked) == 3
    with model_that_answers(busy, says("Yes.")) as (url, _), httpx.Client() as client:
        chat = chat_over_http(client, base_url=url, pauses_s=(0.0,))
        assert chat({"messages": []})["choices"][0]["message"]["content"] == "Yes."


def test_the_prompt_is_a_template_with_one_placeholder():
    assert "Franklin House" in render(SEED_PROMPT)
    for broken in ("{nobody}", "{", "{0}"):
        with pytest.raises(BadInput, match="does not render"):
            render(broken)
