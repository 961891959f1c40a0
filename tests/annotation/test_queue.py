"""Whose turn which row is."""

from __future__ import annotations

import pytest
from jobs import items_for

from whet.annotation.answers import Answer, Guess
from whet.annotation.queue import Queue, Sharing

ITEMS = items_for("label", [{"text": f"row {number}", "label": ""} for number in range(200)])
KEYS = [item.key for item in ITEMS]


def queue_of(order="file", sharing=Sharing(), review=False, items=ITEMS):
    queue = Queue(items, "label", sharing, order, review=review)
    queue.arrange()
    return queue


def said(key, annotator, value="bug", action="answer", seconds=None):
    return Answer(key=key, annotator=annotator, revision=1, action=action, value=value, seconds=seconds)


def ordered(queue, annotator="ada"):
    """Every row as somebody gets them who skips each."""
    found = []
    while (key := queue.next(annotator, "screen")) is not None:
        found.append(key)
        queue.tell([said(key, annotator, None, "skip")])
    return found


def test_the_least_sure_row_comes_first():
    queue = queue_of("uncertainty")
    queue.tell_guesses(Guess(key, "m", "bug", sure) for key, sure in zip(KEYS[:3], (0.9, 0.2, 0.5), strict=True))
    queue.arrange()
    assert ordered(queue)[:3] == [KEYS[1], KEYS[2], KEYS[0]]


def test_rows_that_models_see_differently_come_first():
    queue = queue_of("disagreement", review=True)
    guesses = [Guess(KEYS[4], "one", "bug", 0.9), Guess(KEYS[4], "two", "billing", 0.9)]
    guesses += [Guess(KEYS[5], "one", "bug", 0.6), Guess(KEYS[5], "two", "bug", 0.6)]
    queue.tell_guesses(guesses)
    queue.arrange()
    assert ordered(queue)[:2] == [KEYS[4], KEYS[5]]


def test_a_row_that_people_see_differently_goes_to_a_further_one():
    queue = queue_of("disagreement", Sharing(fraction=1.0, people=2), review=True)
    queue.tell([said(KEYS[7], "ada", "bug"), said(KEYS[7], "bob", "billing"), said(KEYS[8], "ada"), said(KEYS[8], "bob")])
    queue.arrange()
    assert queue.next("eve", "s") == KEYS[7]
    assert not queue.is_open(KEYS[8], "eve")


def test_the_most_suspicious_label_comes_first_and_rows_that_were_not_judged_come_last():
    queue = queue_of("suspicion", review=True)
    queue.suspicion = {KEYS[3]: 2.0, KEYS[9]: 5.0, KEYS[1]: -3.0}
    queue.arrange()
    assert ordered(queue)[:2] == [KEYS[9], KEYS[3]]


def test_loss_is_high_only_where_it_stays_so_in_every_run():
    queue = queue_of("loss", review=True)
    high = [Guess(KEYS[0], "one", "bug", 0.9, 5.0), Guess(KEYS[0], "two", "bug", 0.9, 4.0)]
    once = [Guess(KEYS[1], "one", "bug", 0.9, 9.0), Guess(KEYS[1], "two", "bug", 0.9, 0.1)]
    queue.tell_guesses([*high, *once])
    queue.arrange()
    assert ordered(queue)[:2] == [KEYS[0], KEYS[1]]


def test_rows_with_an_answer_in_the_file_are_asked_about_only_in_a_review():
    items = items_for("label")
    given = [item.key for item in items if item.given is not None]
    assert set(given).isdisjoint(ordered(queue_of(items=items)))
    assert set(given) <= set(ordered(queue_of(items=items, review=True)))


def test_each_row_goes_to_one_person_and_the_shared_ones_to_as_many_as_asked():
    sharing = Sharing(fraction=0.25, people=3)
    queue = queue_of(sharing=sharing)
    for name in ("ada", "bob", "eve", "dan"):
        while (key := queue.next(name, name)) is not None:
            queue.tell([said(key, name)])
    counts = [len(queue.said[key]) for key in KEYS]
    assert counts == [sharing.needed(key) for key in KEYS]
    # of 200 rows a quarter, decided by hashes: within four standard deviations of 50
    assert 26 <= sum(count == 3 for count in counts) <= 74


def test_a_row_on_one_screen_is_not_given_to_another_one():
    queue = queue_of()
    first, second = queue.next("ada", "left"), queue.next("bob", "right")
    assert first != second
    assert queue.next("ada", "left") == first
    queue.release("left")
    assert queue.next("bob", "third") == first


def test_a_row_for_two_people_goes_to_the_second_as_soon_as_the_first_has_answered_it():
    queue = queue_of(sharing=Sharing(fraction=1.0, people=2))
    shown = queue.next("ada", "left")
    assert queue.next("bob", "right") != shown
    queue.tell([said(shown, "ada")])
    queue.next("ada", "left")
    assert queue.next("bob", "right") == shown


def test_the_last_row_is_given_to_whoever_asks_rather_than_to_nobody():
    queue = queue_of(items=ITEMS[:1])
    assert queue.next("ada", "left") == queue.next("bob", "right") == KEYS[0]


def test_a_skipped_row_waits_for_somebody_else_and_a_flagged_one_does_not():
    queue = queue_of(items=ITEMS[:2])
    queue.tell([said(KEYS[0], "ada", None, "skip"), said(KEYS[1], "ada", None, "flag")])
    assert queue.next("ada", "s") is None
    assert queue.next("bob", "s") == KEYS[0]
    assert not queue.is_open(KEYS[1], "bob")


def test_progress_and_time_left():
    queue = queue_of()
    queue.tell([said(key, "ada", seconds=seconds) for key, seconds in zip(KEYS[:3], (2.0, 4.0, 60.0), strict=True)])
    progress = queue.progress("ada")
    assert (progress.done, progress.left) == (3, 197)
    assert progress.seconds_left == pytest.approx(197 * 4.0)  # the median of the paces
    assert queue.progress("bob").seconds_left is None


def test_disputes_are_rows_that_people_answer_differently_or_flag_until_they_are_settled():
    queue = queue_of(sharing=Sharing(fraction=1.0, people=2))
    queue.tell([said(KEYS[0], "ada", "bug"), said(KEYS[0], "bob", "billing"), said(KEYS[1], "ada"), said(KEYS[1], "bob")])
    queue.tell([said(KEYS[2], "ada", None, "flag")])
    assert queue.disputes() == [KEYS[0], KEYS[2]]
    queue.tell([], [said(KEYS[0], "eve", "bug")])
    assert queue.disputes() == [KEYS[2]]
    assert not queue.is_open(KEYS[0], "eve")
