"""The scripted model: it does as its prompt says, mostly, and speaks OpenAI's protocol over real HTTP."""

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import httpx
import pytest

from leyden.demo import scripted_model
from leyden.demo.agent import SEED_PROMPT, Agent, chat_over_http, join_chunks
from leyden.demo.desk import Desk
from leyden.demo.policy import follow_probability
from leyden.demo.rules import RULES, check
from leyden.demo.scripted_model import chunks, complete
from leyden.demo.tools import TOOLS, ToolError, with_calendar_date
from leyden.demo.world import tasks

ALL_RULES = SEED_PROMPT + "".join(f"- {text}\n" for text in RULES.values())


class CountingDesk(Desk):
    """A desk that remembers which tools refused."""

    def __init__(self, task):
        super().__init__(task)
        self.refusals = []

    def call(self, name, arguments):
        try:
            return super().call(name, arguments)
        except ToolError:
            self.refusals.append(name)
            raise


@cache
def desks(*, prompt=SEED_PROMPT, mended=False, count=100, seed=0):
    """The desks after the agent served `count` tasks."""
    tools = with_calendar_date("YYYY-MM-DD") if mended else TOOLS
    agent = Agent(complete, model=scripted_model.MODEL, prompt=prompt, tools=tools, seed=seed)
    served = [CountingDesk(task) for task in tasks(count)]
    for desk in served:
        agent.converse(desk)
    return served


def mean_reward(served):
    return sum(check(desk).reward for desk in served) / len(served)


def refusals(served, tool):
    return sum(desk.refusals.count(tool) for desk in served)


def request(text="", prompt=SEED_PROMPT, **more):
    messages = [
        {"role": "system", "content": prompt},
        {"role": "user", "content": text or tasks(1)[0].request},
    ]
    return {"model": "any", "messages": messages, "tools": TOOLS, **more}


@pytest.fixture(scope="module")
def base_url():
    with scripted_model.serve() as url:
        yield url


@pytest.mark.parametrize("rule", RULES)
def test_the_sentence_of_each_rule_states_that_rule_and_no_other(rule):
    stated = [name for name in RULES if follow_probability(name, RULES[rule]) > 0.9]
    assert stated == [rule]


def test_the_seed_prompt_keeps_eight_rules_to_itself():
    assert {rule for rule in RULES if follow_probability(rule, SEED_PROMPT) > 0.9} == {
        "equipment",
        "access",
        "smallest",
        "confirm",
    }


def test_a_prompt_far_too_long_is_followed_less():
    assert follow_probability("access", ALL_RULES) == 0.985
    assert follow_probability("access", ALL_RULES + "Be kind. " * 800) < 0.8


def test_a_prompt_with_all_rules_earns_far_more_and_each_half_is_between():
    seed, full = mean_reward(desks(mended=True)), mean_reward(desks(prompt=ALL_RULES, mended=True))
    half = SEED_PROMPT + "".join(f"- {RULES[rule]}\n" for rule in ("buffer", "waitlist"))
    assert seed + 0.05 < mean_reward(desks(prompt=half, mended=True)) < full - 0.02
    assert full > 0.95


def test_an_edit_that_says_nothing_changes_nothing_but_the_draw():
    polite = SEED_PROMPT + "- Be polite.\n"
    before, after = (
        [check(desk).reward for s in range(2) for desk in desks(prompt=p, seed=s)]
        for p in (SEED_PROMPT, polite)
    )
    # 200 rewards a side with a standard deviation of at most 0.4: three standard errors of the difference are 0.12.
    assert before != after
    assert abs(sum(before) - sum(after)) / 200 < 0.12


def test_white_space_changes_nothing_at_all():
    spaced = SEED_PROMPT.replace("\n", "\n\n  ")
    assert [check(d) for d in desks(count=30)] == [check(d) for d in desks(prompt=spaced, count=30)]


def test_another_seed_draws_anew_and_the_same_seed_repeats():
    first, again, other = (mean_reward(desks(seed=seed, count=60)) for seed in (1, 1, 2))
    assert first == again != other


def test_the_wrong_description_makes_the_calendar_the_tool_that_fails_most_by_far():
    served = desks()
    others = [refusals(served, tool["function"]["name"]) for tool in TOOLS]
    others.remove(calendar := refusals(served, "check_calendar"))
    assert calendar > 2 * len(served)
    assert calendar > 3 * sum(others)


def test_the_fault_vanishes_when_the_tool_description_is_mended():
    served = desks(mended=True)
    assert refusals(served, "check_calendar") == 0
    assert mean_reward(served) > mean_reward(desks()) + 0.03


def test_the_fault_all_but_vanishes_when_the_prompt_gives_the_form_of_the_date():
    told = SEED_PROMPT + "check_calendar takes its date as YYYY-MM-DD.\n"
    assert refusals(desks(prompt=told), "check_calendar") < 0.05 * refusals(desks(), "check_calendar")


def test_rooms_are_also_booked_twice_and_overfilled_at_times():
    served = desks()
    assert 0 < refusals(served, "book_room") < refusals(served, "check_calendar") / 3


def test_what_is_not_a_request_for_a_room_is_answered_with_a_question():
    for text in ("Hello!", "Book a room on 99 Smarch 2026 from 10:00 to 11:00 for 3 of us, a@b.example"):
        choice = complete(request(text))["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert "tell me the day" in choice["message"]["content"]


def test_tokens_are_counted_from_the_length_of_the_text():
    short, long = complete(request()), complete(request(prompt=SEED_PROMPT + "x" * 400))
    assert long["usage"]["prompt_tokens"] - short["usage"]["prompt_tokens"] == 100
    assert (
        short["usage"]["total_tokens"]
        == short["usage"]["prompt_tokens"] + short["usage"]["completion_tokens"]
    )


def test_a_stream_put_together_is_the_plain_answer():
    for body in (request(), request("Hello!")):
        answer = complete(body, now=1_780_000_000.0)
        assert join_chunks(chunks(answer, include_usage=True)) == answer


def test_the_server_answers_plain_and_streamed_alike(base_url):
    with httpx.Client() as client:
        plain = chat_over_http(client, base_url=base_url)(request())
        streamed = chat_over_http(client, base_url=base_url, stream=True)(request())
    assert plain["choices"] == streamed["choices"] == complete(request())["choices"]
    assert plain["usage"] == streamed["usage"]


def test_a_stream_ends_with_done_and_has_usage_only_when_asked(base_url):
    lines = httpx.post(f"{base_url}/chat/completions", json=request(stream=True)).text.split("\n\n")
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    assert not any("usage" in json.loads(event) for event in events[:-1])


def test_the_server_lists_its_model_and_refuses_what_it_does_not_know(base_url):
    assert httpx.get(f"{base_url}/models").json()["data"][0]["id"] == scripted_model.MODEL
    assert httpx.get(f"{base_url}/nothing").status_code == 404
    assert httpx.post(f"{base_url}/embeddings", json={}).status_code == 404
    for body in (b"", b"not json", b"[]", b"{}", b'{"messages": 7}', b'{"messages": [7]}'):
        answer = httpx.post(f"{base_url}/chat/completions", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["type"] == "invalid_request_error"


def test_eight_at_once_get_the_answers_they_would_get_alone(base_url):
    bodies = [request(task.request) for task in tasks(40)]
    with httpx.Client() as client, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(chat_over_http(client, base_url=base_url), bodies))
    assert [answer["choices"] for answer in answers] == [complete(body)["choices"] for body in bodies]
