"""The world: distinct tasks, tools that refuse with a reason, rules that each matter, rewards that never waver."""

import pytest

from leyden.demo import scripted_model
from leyden.demo.agent import Agent
from leyden.demo.desk import Desk
from leyden.demo.policy import Fidelity
from leyden.demo.rules import RULES, check, rooms_that_will_do
from leyden.demo.tools import TOOLS, ToolError, with_calendar_date
from leyden.demo.world import ROOMS, tasks

OBEDIENT = Fidelity(stated=1.0, unstated=0.0)
"""Follows exactly what its prompt states: a perfect policy when the prompt states every rule."""


def serve(task, *, rules, fidelity=OBEDIENT):
    """The desk after an agent with these rules in its prompt served the task."""
    desk = Desk(task)
    prompt = "You are the front desk of {office}.\n" + "\n".join(f"- {RULES[rule]}" for rule in rules)
    agent = Agent(
        lambda body: scripted_model.complete(body, fidelity=fidelity),
        model=scripted_model.MODEL,
        prompt=prompt,
        tools=with_calendar_date("YYYY-MM-DD"),
    )
    agent.converse(desk)
    return desk


def bookable_task(**wanted):
    """A task that some room will do for, with these fields."""
    return next(
        task
        for task in tasks(300)
        if rooms_that_will_do(task) and all(getattr(task, name) == value for name, value in wanted.items())
    )


def book(desk, room_id, **changes):
    task = desk.task
    call = {
        "room_id": room_id,
        "date": task.date,
        "start": task.start,
        "end": task.end,
        "people": task.people,
    }
    return desk.call("book_room", {**call, "title": "Meeting", **changes})


def test_the_same_seed_gives_the_same_tasks_and_another_seed_gives_others():
    assert tasks(50, seed=3) == tasks(50, seed=3)
    assert not {task.request for task in tasks(50, seed=3)} & {task.request for task in tasks(50, seed=4)}


def test_five_hundred_requests_are_all_different_and_a_longer_list_begins_with_the_shorter_one():
    many = tasks(500)
    assert len({task.request for task in many}) == 500
    assert many[:40] == tasks(40)


def test_most_requests_can_be_met_and_some_cannot():
    met = sum(bool(rooms_that_will_do(task)) for task in tasks(300))
    assert 0.75 < met / 300 < 0.95


def test_the_office_has_fourteen_rooms_and_a_dozen_rules():
    assert len(ROOMS) == 14
    assert len(RULES) == 12


def test_a_policy_that_keeps_every_rule_earns_everything_on_every_task():
    assert {check(serve(task, rules=RULES)) for task in tasks(120)} == {(1.0, ())}


@pytest.mark.parametrize("removed", RULES)
def test_without_any_one_rule_the_perfect_policy_loses_on_some_task(removed):
    kept = [rule for rule in RULES if rule != removed]
    rewards = [check(serve(task, rules=kept)).reward for task in tasks(60)]
    assert min(rewards) < 1.0


def test_the_reward_depends_on_the_final_state_alone():
    for task in tasks(30):
        first, again = (serve(task, rules=["smallest", "confirm"], fidelity=Fidelity()) for _ in range(2))
        assert check(first) == check(again) == check(first)


def test_the_checker_names_the_rule_that_was_broken_and_takes_the_reward_for_it():
    task = bookable_task(wheelchair=True, visitors=0, private=False, equipment=())
    steps = next(
        room.room_id
        for room in ROOMS.values()
        if not room.step_free and room.capacity >= task.people and _nothing_else_wrong(task, room)
    )
    desk = Desk(task)
    booking = book(desk, steps)
    desk.call("send_confirmation", {"to": task.email, "reference": booking["booking_id"], "text": "Booked."})
    assert check(desk) == (0.44, ("access",))


def _nothing_else_wrong(task, room):
    desk = Desk(task)
    try:
        book(desk, room.room_id)
    except ToolError:
        return False
    return check(desk).broken == ("access", "confirm")


def test_doing_nothing_booking_twice_or_another_time_earns_nothing():
    task = bookable_task()
    room = rooms_that_will_do(task)[0].room_id
    idle, twice, late = Desk(task), Desk(task), Desk(task)
    book(twice, room)
    book(twice, room, date="2027-12-01")
    book(late, room, date="2027-12-01")
    assert [check(desk).reward for desk in (idle, twice, late)] == [0.0, 0.0, 0.0]


def test_a_booking_that_was_cancelled_no_longer_counts():
    task = bookable_task()
    desk, room = Desk(task), rooms_that_will_do(task)[0].room_id
    mistaken = book(desk, room, date="2027-12-01")
    desk.call("cancel_booking", {"booking_id": mistaken["booking_id"]})
    right = book(desk, room)
    desk.call("send_confirmation", {"to": task.email, "reference": right["booking_id"], "text": "Booked."})
    assert check(desk) == (1.0, ())


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("open_door", {}, "there is no tool 'open_door'"),
        (
            "check_calendar",
            {"room_id": "oak", "date": "4 May 2026"},
            "date must be YYYY-MM-DD, got '4 May 2026'",
        ),
        (
            "check_calendar",
            {"room_id": "oak", "date": "2026-02-30"},
            "date must be YYYY-MM-DD, got '2026-02-30'",
        ),
        ("check_calendar", {"room_id": "oak", "day": "2026-05-04"}, "check_calendar needs 'date'"),
        ("check_calendar", {"room_id": "cupboard", "date": "2026-05-04"}, "there is no room 'cupboard'"),
        ("search_rooms", {"seats": 3}, "search_rooms has no argument 'seats'"),
        ("search_rooms", {"min_capacity": "3"}, "'min_capacity' of search_rooms must be of type integer"),
        ("search_rooms", {"min_capacity": True}, "'min_capacity' of search_rooms must be of type integer"),
        ("search_rooms", {"equipment": ["piano"]}, "unknown equipment 'piano'"),
        ("cancel_booking", {"booking_id": "bk-9"}, "no booking 'bk-9'"),
        (
            "join_waitlist",
            {"date": "2026-05-04", "start": "9:00", "end": "10:00", "people": 2},
            "time must be HH:MM",
        ),
        (
            "join_waitlist",
            {"date": "2026-05-04", "start": "10:00", "end": "10:00", "people": 2},
            "ends before it begins",
        ),
        (
            "send_confirmation",
            {"to": "you", "reference": "bk-1", "text": ""},
            "'you' is not an e-mail address",
        ),
        ("send_confirmation", {"to": "a@b.example", "reference": "bk-1", "text": ""}, "'bk-1' is neither"),
    ],
)
def test_a_tool_refuses_a_bad_call_and_says_why(tool, arguments, message):
    with pytest.raises(ToolError) as refused:
        Desk(tasks(1)[0]).call(tool, arguments)
    assert message in str(refused.value)


def test_a_room_that_is_taken_closed_or_too_small_is_refused_and_each_refusal_costs():
    task = bookable_task()
    desk, taken = Desk(task), task.taken[0]
    for room_id, changes, reason in (
        (taken.room_id, {"start": taken.start, "end": taken.end, "people": 2}, "already booked"),
        ("cedar", {"start": "07:30", "people": 2}, "closed"),
        ("alder", {"people": 5}, "over capacity"),
    ):
        with pytest.raises(ToolError, match=reason):
            book(desk, room_id, **changes)
    right = book(desk, rooms_that_will_do(task)[0].room_id)
    desk.call("send_confirmation", {"to": task.email, "reference": right["booking_id"], "text": "Booked."})
    assert check(desk) == (0.85, ())


def test_a_booking_shows_in_the_calendar_it_was_made_in():
    task = bookable_task()
    desk, room = Desk(task), rooms_that_will_do(task)[0].room_id
    book(desk, room)
    day = desk.call("check_calendar", {"room_id": room, "date": task.date})
    assert {"start": task.start, "end": task.end} in day["booked"]


def test_every_tool_the_model_is_told_of_exists_with_those_arguments():
    for tool in TOOLS:
        function = tool["function"]
        method = getattr(Desk, function["name"])
        taken = method.__code__.co_varnames[1 : method.__code__.co_argcount]
        assert set(function["parameters"]["properties"]) == set(taken)
