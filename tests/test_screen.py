"""What one sees while a sweep runs: the live table at some sizes, and lines where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
from collections.abc import Iterator

import pytest
from rich.cells import cell_len
from rich.console import Console

import vididi.screen
from vididi.live_table import Line, progress_text, seconds_left, share_done, time_text
from vididi.screen import ForeignLines, PrepareBar, SweepScreen, leave_screens
from vididi.terminal import PlainConsole

REPORT = {"train/loss": 1.5, "time/seconds_per_step": 0.25, "time/data_share": 0.125}
RESULT = {
    "seconds": 60.0,
    "retrieval/R@1": 0.25,
    "retrieval/R@5": 0.5,
    "retrieval/R@10": 0.75,
    "silhouette/all": -0.125,
}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def screen_of(width: int, height: int = 24) -> SweepScreen:
    console = PlainConsole(
        file=io.StringIO(), width=width, height=height, record=True, force_terminal=True
    )
    return SweepScreen(console)


def drawn(screen: SweepScreen) -> list[str]:
    """The lines of the live table."""
    console = Console(
        file=io.StringIO(), width=screen.console.width, height=24, record=True, markup=False
    )
    console.print(screen.live_table())
    return console.export_text().splitlines()


def a_sweep_of_45(screen: SweepScreen, clock: list[float]) -> None:
    """Of which 20 are finished, 2 run, and 23 wait."""
    for number in range(45):
        screen.add(f"arm_{number}-s0", "waiting", 10, None)
    for number in range(22):
        title = f"arm_{number}-s0"
        screen.start(title)
        for epoch in range(1, 11 if number < 20 else 6):
            clock[0] += 6
            screen.report(title, {**REPORT, "epoch": epoch})
        if number < 20:
            screen.end(title, "finished", RESULT, "")


@pytest.mark.parametrize("width", [80, 140])
def test_running_cells_come_first_and_all_fits(width: int, clock: list[float]) -> None:
    screen = screen_of(width)
    a_sweep_of_45(screen, clock)
    lines = drawn(screen)
    assert len(lines) <= 23
    assert max(map(cell_len, lines)) <= width
    assert [line.split()[:2] for line in lines[1:3]] == [
        ["arm_20-s0", "running"],
        ["arm_21-s0", "running"],
    ]
    assert lines[3].split()[:2] == ["arm_19-s0", "finished"], "the last that ended"
    assert re.fullmatch(r"and 25 more: 2 finished, 23 waiting", lines[-2].strip())
    assert lines[-1].strip().startswith("20 of 45 done, about ")


def test_columns_go_where_there_is_no_room(clock: list[float]) -> None:
    screens = {width: screen_of(width) for width in (40, 60, 140)}
    for screen in screens.values():
        a_sweep_of_45(screen, clock)
    heads = {width: drawn(screen)[0].split() for width, screen in screens.items()}
    assert heads[140] == [
        "cell",
        "state",
        "epoch",
        "loss",
        "s/step",
        "data",
        "wait",
        "R@1",
        "R@5",
        "R@10",
        "silhouette",
        "time",
    ]
    assert "cell" in heads[60]
    assert "loss" in heads[60]
    assert "silhouette" not in heads[60]
    assert heads[40][:2] == ["cell", "state"]
    assert all(max(map(cell_len, drawn(s))) <= width for width, s in screens.items())


def test_long_names_are_cut_while_it_runs_and_whole_at_the_end(clock: list[float]) -> None:
    name = "an arm of which the label says everything, as long as it takes, and more of it, s0"
    screen = screen_of(80)
    screen.add(name, "waiting", 10, None)
    screen.add("never", "waiting", 10, None)
    screen.start(name)
    assert max(map(cell_len, drawn(screen))) <= 80
    assert "…" in drawn(screen)[1]
    screen.console.print(screen.table(), soft_wrap=False)
    said = screen.console.export_text()
    assert all(word in said for word in re.split(r"[ ,]+", name))
    assert "never" not in said, "it did not begin"


def test_the_time_left_is_from_measured_epochs(clock: list[float]) -> None:
    screen = screen_of(140)
    for number in range(4):
        screen.add(f"c{number}", "waiting", 10, None)
    assert seconds_left(screen.lines.values()) is None
    screen.start("c0")
    screen.start("c1")
    for epoch in (1, 2, 3, 4, 5):
        clock[0] += 30
        for title in ("c0", "c1"):
            screen.report(title, {**REPORT, "epoch": epoch})
    # 30 epochs of 30 seconds are left, two at a time
    assert seconds_left(screen.lines.values()) == pytest.approx(450)
    assert progress_text(screen.lines.values()) == "0 of 4 done, about 8 minutes left"
    assert share_done(screen.lines.values()) == 0.25


def test_a_cell_that_goes_on_is_measured_by_what_this_start_trained(clock: list[float]) -> None:
    screen = screen_of(140)
    screen.add("c", "waiting", 100, None)
    screen.start("c")
    for epoch in (91, 92):
        clock[0] += 10
        screen.report("c", {**REPORT, "epoch": epoch})
    assert seconds_left(screen.lines.values()) == pytest.approx(80)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (20, "less than a minute left"),
        (61, "about 1 minute left"),
        (600, "about 10 minutes left"),
        (3 * 3600, "about 3 hours left"),
    ],
)
def test_how_long_is_said_in_words(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_of_another_kind_nothing_is_guessed() -> None:
    known = Line("finished", 10, 10, seconds=100.0)
    other = Line("waiting", 5, evaluation="linear", encoder="c")
    assert seconds_left([known, other]) is None


def test_an_evaluation_has_columns_of_its_own_and_says_which_encoder(clock: list[float]) -> None:
    screen = screen_of(80)
    for encoder in ("base-s0", "vididi-s0"):
        screen.add(f"{encoder} linear", "waiting", 4, None, "linear", encoder)
    screen.start("base-s0 linear")
    clock[0] += 5
    made = {"metrics": {"linear/top1": 0.5, "linear/top5": 0.75}, "untrained": None}
    screen.end("base-s0 linear", "finished", made, "")
    screen.start("vididi-s0 linear")
    screen.report("vididi-s0 linear", {"epoch": 1, "loss": 2.0})
    head, first, second, *_ = drawn(screen)
    assert head.split() == [
        "encoder",
        "evaluation",
        "state",
        "epoch",
        "loss",
        "linear/top1",
        "linear/top5",
        "time",
    ]
    assert first.split()[:5] == ["vididi-s0", "linear", "running", "1/4", "2.000"]
    assert second.split() == ["base-s0", "linear", "finished", "4/4", "0.500", "0.750", "5", "s"]


def test_stopping_is_said_at_once(clock: list[float]) -> None:
    screen = screen_of(80)
    a_sweep_of_45(screen, clock)
    screen.stop()
    assert drawn(screen)[-1].startswith("stopping ...  20 of 45 done")
    piped = SweepScreen(PlainConsole(file=(out := io.StringIO())))
    piped.stop()
    assert out.getvalue().endswith("stopping ...\n")


def test_piped_lines_have_a_clock_and_a_percentage(clock: list[float]) -> None:
    out = io.StringIO()
    screen = SweepScreen(PlainConsole(file=out))
    with screen:
        a_sweep_of_45(screen, clock)
    lines = out.getvalue().splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d +\d+% arm_", line) for line in lines)
    assert lines[0].split()[1:] == ["0%", "arm_0-s0:", "started"]
    shares = [int(line.split()[1].rstrip("%")) for line in lines]
    assert shares == sorted(shares)
    assert shares[-1] == 46  # 20 of 45 and five tenths of two, without what is not whole


def test_preparing_says_how_far_it_is_where_there_is_no_bar(clock: list[float]) -> None:
    out = io.StringIO()
    bar = PrepareBar(PlainConsole(file=out), "preparing videos")
    for done in range(1, 101):
        clock[0] += 1
        bar(done, 100, 2)
    lines = out.getvalue().splitlines()
    assert 9 <= len(lines) <= 12
    form = r"\d\d:\d\d:\d\d +(\d+)% preparing videos: (\d+) of 100, .* videos/s, 2 rejected"
    assert all((m := re.fullmatch(form, line)) and m[1] == m[2] for line in lines)
    assert " 100% preparing videos: 100 of 100, 1 videos/s" in lines[-1]


def test_what_is_written_past_python_is_passed_on_line_by_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As by Ray's C++, on a terminal; what is no news is not."""
    theirs, terminal = pty.openpty()
    monkeypatch.setattr(vididi.screen, "STDERR", terminal)
    said: list[str] = []
    with ForeignLines(said.append):
        os.write(terminal, b"logging.cc:303: Set ray log level from environment variable X\n")
        os.write(terminal, b"a raylet died\nanother line\n")
    assert said == ["a raylet died", "another line"]
    os.write(terminal, b"after")
    assert os.read(theirs, 100) == b"after", "nothing was written to the terminal before"


def test_a_stream_that_is_no_terminal_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    monkeypatch.setattr(vididi.screen, "STDERR", writing)
    with ForeignLines(lambda line: pytest.fail(line)):
        os.write(writing, b"x\n")
    assert os.read(reading, 10) == b"x\n"


def test_a_program_that_is_replaced_leaves_the_terminal_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The cursor is back, and so is the error stream, which the new program has, too."""
    printed, (ours, terminal) = io.StringIO(), pty.openpty()
    monkeypatch.setattr(vididi.screen, "STDERR", terminal)
    before = os.fstat(terminal).st_rdev
    with SweepScreen(PlainConsole(file=printed, force_terminal=True, width=80)) as screen:
        screen.add("a", "waiting", 4, None)
        assert os.fstat(terminal).st_rdev != before
        assert "\x1b[?25h" not in printed.getvalue()
        leave_screens()
        assert os.fstat(terminal).st_rdev == before
        assert "\x1b[?25h" in printed.getvalue()
        leave_screens()
    os.close(ours)
    os.close(terminal)
