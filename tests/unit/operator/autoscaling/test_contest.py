"""When the autoscaler steps back before somebody else who scales."""

from __future__ import annotations

from celeriac_operator.autoscaling.contest import STEP_BACK_SECONDS, WITHIN_SECONDS, Contest


def overruled(*times: float) -> Contest:
    contest = Contest()
    for now in times:
        contest = contest.wrote(5).see(5, now).see(2, now)
    return contest


def test_a_person_who_scales_by_hand_is_overruled() -> None:
    assert not overruled(0, 15).is_lost(15)


def test_somebody_who_does_it_again_and_again_wins_for_a_while() -> None:
    contest = overruled(0, 15, 30)
    assert contest.is_lost(30)
    assert contest.see(2, 30 + STEP_BACK_SECONDS / 2).is_lost(30 + STEP_BACK_SECONDS / 2)
    assert not contest.is_lost(30 + STEP_BACK_SECONDS)


def test_a_number_on_its_way_is_not_somebody_elses() -> None:
    assert Contest().wrote(3).writes().see(5, 0).overruled_at == ()


def test_what_is_long_past_does_not_count() -> None:
    assert not overruled(0, 15, WITHIN_SECONDS + 1).is_lost(WITHIN_SECONDS + 1)


def test_a_number_that_nobody_has_written_is_nobodys() -> None:
    assert Contest().see(7, 0) == Contest()
