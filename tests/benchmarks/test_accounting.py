import os
import subprocess
import sys

from tests.benchmarks.accounting import memory, processor_seconds, wait_until_idle

BUSY = """
import subprocess, sys, threading, time
thread = threading.Thread(target=lambda: sum(range(3_000_000)))
thread.start(); thread.join()
child = subprocess.Popen([sys.executable, "-c",
    "import sys, time; sum(range(3_000_000)); print(time.process_time(), flush=True); sys.stdin.read()"],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE)
print(time.process_time(), float(child.stdout.readline()), flush=True)
sys.stdin.read()
"""


def test_threads_that_have_ended_and_children_are_counted() -> None:
    """The process and its child say by their own clocks what they had used at least."""
    with subprocess.Popen([sys.executable, "-c", BUSY], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        own, childs = map(float, process.stdout.readline().split())
        counted = processor_seconds(process.pid)
        held = memory(process.pid)
        process.communicate()
    assert counted >= own + childs
    assert held.rss >= held.pss > 0


def test_a_process_is_waited_for_until_it_has_nothing_to_do() -> None:
    program = (
        "import sys; print('begins', flush=True); sum(range(20_000_000)); print('done', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begins\n"
        wait_until_idle(process.pid)
        os.set_blocking(process.stdout.fileno(), False)
        said = process.stdout.read()
        process.communicate()
    assert said == b"done\n"
