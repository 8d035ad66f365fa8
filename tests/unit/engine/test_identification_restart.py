"""What was learnt of animals is continued by a later state of the stream, as if the frames had gone through one."""

from __future__ import annotations

import copy
from itertools import pairwise

import pytest
from identified_scene import Run, Scene, looks
from meeting_animals import BACK, GONE

from trackd.engine import identification
from trackd.engine.identification import Identification
from trackd.identity import learnt
from trackd.identity.arrays import lists_of
from trackd.identity.looks import Looks, read_looks
from trackd.store.records import FrameRecord
from trackd.tracking.correction import Action, Correction

LOOKED = GONE - 20  # the last frame that the looks know of
END = 180


def stored(scene: Scene, path) -> Looks:
    """What the scene has learnt now, by way of a file."""
    pending = scene.state.pending_looks(scene.last, now=True)
    assert pending is not None
    found = pending.result()
    assert found is not None
    (path / "cam.looks").write_bytes(found.to_bytes())
    return read_looks(path / "cam.looks")


def restarted(scene: Scene, found: Looks | None, records: list[FrameRecord]) -> Scene:
    """The scene in a state that begins with the tracker of another one, and with looks."""
    made = Scene(scene.patterns)
    made.random, made.last = copy.deepcopy(scene.random), scene.last
    made.state.tracker.restore(scene.state.tracker.snapshot())
    if found is not None:
        made.state.continue_looks(found, records, scene.last)
    return made


def known(scene: Scene) -> list[int]:
    """The ids of which something is known."""
    identities = scene.state.identification
    assert identities is not None
    arrays = identities.copy_now().result(20)
    return [] if arrays is None else sorted(arrays["ids"].tolist())


@pytest.mark.parametrize("at", [GONE - 1, GONE + 10, BACK + 3])
def test_an_exchange_after_a_restart_is_corrected_as_without_it(tmp_path, at):
    scene = Scene(looks(3))
    run = scene.run(0, LOOKED)
    found = stored(scene, tmp_path)
    run.records += scene.run(LOOKED, at).records
    again = restarted(scene, found, run.records).run(at, END)
    whole = Scene(looks(3)).run(0, END)
    assert again.ids[-1] == whole.ids[-1] == run.ids[0]
    assert len(again.corrected) == 1
    assert abs(again.corrected[0] - whole.corrected[0]) <= 15, "blocks begin anew, and half of one is lost"


def test_without_looks_the_exchange_after_the_same_restart_stays():
    scene = Scene(looks(3))
    run = scene.run(0, GONE - 1)
    again = restarted(scene, None, []).run(GONE - 1, END)
    assert not again.corrected
    assert again.ids[-1][0] == run.ids[0][1]


def test_looks_without_the_frames_after_them_take_any_track_for_any_animal(tmp_path):
    scene = Scene(looks(3))
    run = scene.run(0, LOOKED)
    found = stored(scene, tmp_path)
    scene.run(LOOKED, BACK + 3)  # the exchange is among them
    again = restarted(scene, found, []).run(BACK + 3, END)
    assert again.ids[-1] == run.ids[0]
    assert len(again.corrected) == 1


def test_fragments_without_images_pass_on_what_was_believed_before_them(tmp_path):
    scene = Scene(looks(3))
    run = scene.run(0, LOOKED)
    found = stored(scene, tmp_path)
    run.records += scene.run(LOOKED, BACK + 3).records
    again = stored(restarted(scene, found, run.records), tmp_path)
    (count,) = found.arrays["tracks.count"].tolist()
    assert set(again.arrays["beliefs.of"].tolist()) >= {count, count + 1}, "of the two animals that were seen again"
    assert {frozenset(each) for each in lists_of(again.arrays, "beliefs")[-2:]} == {frozenset({0, 1})}


def test_ids_that_were_corrected_after_the_looks_are_learnt_anew(tmp_path):
    scene = Scene(looks(3))
    run = scene.run(0, BACK + 3)
    found = stored(scene, tmp_path)
    last = BACK + 3
    while not run.corrected:
        more = scene.run(last, last + 1)
        run.records, run.corrected, last = run.records + more.records, more.corrected, last + 1
        assert last < END
    for frames in (0, 5):  # the correction is stated by the next frame, which may come before or after the restart
        more = scene.run(last, last + frames)
        run.records, last = run.records + more.records, last + frames
        again = restarted(scene, found, run.records)
        first = again.run(last, last + 1)
        assert known(again) == [2]
        later = again.run(last + 1, END)
        assert first.ids[-1] == later.ids[-1] == run.ids[0]
        assert not later.corrected
        assert known(again) == [0, 1, 2]
        with pytest.raises(ValueError, match="ids were corrected after seq"):
            restarted(scene, found, run.records[:-1])


def test_a_correction_that_the_looks_know_of_is_not_taken_for_a_later_one(tmp_path):
    scene = Scene(looks(3))
    run, last = Run(), 0
    while not run.corrected:
        run = scene.run(last, last + 1)
        last += 1
        assert last < END
    again = restarted(scene, stored(scene, tmp_path), [])
    again.run(last, last + 1)
    assert known(again) == [0, 1, 2]


def test_names_by_people_and_their_corrections_are_known_after_the_restart(tmp_path):
    scene = Scene(looks(3))
    scene.run(0, LOOKED)
    scene.state.correct(Correction(Action.RENAME, (2,), name="Ben", author="ana"))
    scene.state.correct(Correction(Action.SWAP, (0, 1), author="ana"))
    scene.run(LOOKED, LOOKED + 1)
    found = stored(scene, tmp_path)
    assert found.arrays["named"].tolist() == [2]
    assert sorted(found.arrays["trusted"].tolist()) == [0, 1]
    again = stored(restarted(scene, found, []), tmp_path)
    assert found.arrays.keys() == again.arrays.keys()
    for name, array in found.arrays.items():
        assert array.tolist() == again.arrays[name].tolist(), name


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"gallery": "cage"}, "gallery 'cage'; the stream has None"), ({"seq": 999}, "of seq 999, and the journal ends")],
    ids=["gallery", "seq"],
)
def test_looks_that_do_not_fit_the_stream_are_refused_and_change_nothing(tmp_path, change, reason):
    scene = Scene(looks(3))
    scene.run(0, LOOKED)
    found = stored(scene, tmp_path)
    values = {name: getattr(found, name) for name in Looks.__slots__} | change
    before = scene.state.identification
    with pytest.raises(ValueError, match=reason):
        scene.state.continue_looks(Looks(**values), [], scene.last)
    assert scene.state.identification is before


def test_looks_are_due_every_few_seconds_and_the_newest_replaces_the_one_before(monkeypatch):
    scene = Scene(looks(3))
    assert not scene.run(0, 40).looks, "nobody keeps them"
    monkeypatch.setattr(identification, "LOOKS_NS", 10**9)
    scene = Scene(looks(3))
    scene.state.keeps_looks = True
    run = scene.run(0, BACK)
    seqs = [each.seq for each in run.looks]
    assert len(seqs) >= 3
    assert all(30 <= later - seq <= 40 for seq, later in pairwise(seqs))
    assert [each.result() is None for each in run.looks] == [True] * (len(seqs) - 1) + [False]


def test_looks_are_due_with_each_correction_and_kept_ids_are_the_same():
    scene = Scene(looks(3))
    scene.state.keeps_looks = True
    run, plain = scene.run(0, END), Scene(looks(3)).run(0, END)
    assert [each.seq for each in run.looks][-1:] == run.corrected == plain.corrected
    assert run.looks[-1].corrections == 1
    assert run.ids == plain.ids


def test_looks_of_too_many_tracks_are_not_made(monkeypatch):
    scene = Scene(looks(3))
    scene.run(0, LOOKED)
    monkeypatch.setattr(learnt, "MAX_JOINED", 2)
    pending = scene.state.pending_looks(scene.last, now=True)
    assert pending is not None
    assert pending.result() is None


@pytest.mark.parametrize(("pause", "suspected"), [(10, False), (20, True)])
def test_after_a_pause_without_frames_each_track_may_be_any_animal(pause, suspected):
    scene = Scene(looks(3))
    scene.run(0, 30)
    scene.run(30 + pause, 60)
    identities = scene.state.identification
    assert isinstance(identities, Identification)
    suspects = {frozenset(each.suspects) for each in identities._fragments.all if each.frame_index >= 30}
    assert suspects == ({frozenset({0, 1, 2})} if suspected else set())
