import io

from funcnn.train import make_progress
from funcnn.train.progress import PlainProgress, TerminalProgress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def show(progress):
    progress.start(20, 5)
    progress.advance(10)
    progress.report({"step": 10, "loss": 0.123456, "evaluation_accuracy": 1.0})
    progress.advance(20)
    progress.close()


def test_plain_lines_where_there_is_no_terminal():
    stream = io.StringIO()
    progress = make_progress(stream)
    assert isinstance(progress, PlainProgress)
    show(progress)
    assert stream.getvalue() == "step 10/20  loss 0.1235  evaluation accuracy 1\n"


def test_a_bar_with_the_records_above_it_on_a_terminal():
    stream = Terminal()
    progress = make_progress(stream)
    assert isinstance(progress, TerminalProgress)
    show(progress)
    assert "step 10/20  loss 0.1235" in stream.getvalue()
    assert "20/20" in stream.getvalue()
    assert "\x1b[?25h" in stream.getvalue()  # the cursor is visible again


def test_the_speed_between_two_records_stands_on_the_bar():
    stream = Terminal()
    progress = make_progress(stream)
    progress.start(20, 0)
    progress.report({"step": 10, "loss": 0.5, "steps_per_second": 1234.56})
    bar = stream.getvalue()
    progress.advance(20)
    progress.close()
    assert "step 10/20  loss 0.5  1,235 steps/s" in bar
    assert "1,235 steps/s" in stream.getvalue().removeprefix(bar)  # as the bar is drawn again
