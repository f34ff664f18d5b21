import os
import signal
from pathlib import Path

import pytest

from devstack import DevstackError, processes
from devstack.processes import Process, is_running, wait_until


def shell(script: str, folder: Path, *, stop_seconds: float = 10) -> Process:
    return Process("shell", ["sh", "-c", script], log=folder / "log", stop_seconds=stop_seconds)


def test_its_output_goes_to_the_log_and_can_be_waited_for(tmp_path: Path) -> None:
    with shell("echo one; echo two >&2; exec sleep 100", tmp_path) as process:
        process.wait_for("two")
        assert process.output == "one\ntwo\n"


def test_waiting_for_what_an_ended_process_never_wrote_fails_at_once(tmp_path: Path) -> None:
    process = shell("sleep 0.1; echo last words", tmp_path).start()
    with pytest.raises(DevstackError, match=r"(?s)ended before it wrote 'hello'.*last words"):
        process.wait_for("hello", seconds=100)
    process.stop()


def test_a_process_that_ends_before_it_is_ready_tells_why(tmp_path: Path) -> None:
    process = Process("web", ["sh", "-c", "echo no port; exit 3"], log=tmp_path / "log", ready=lambda: False)
    with pytest.raises(DevstackError, match=r"(?s)web ended with code 3\..*no port"):
        process.start()


def test_a_process_that_never_gets_ready_is_killed(tmp_path: Path) -> None:
    process = Process("web", ["sleep", "100"], log=tmp_path / "log", ready=lambda: False, ready_seconds=0.1)
    with pytest.raises(DevstackError, match=r"web ready: not within 0.1 s"):
        process.start()
    assert not process.running


def test_stop_lets_it_finish(tmp_path: Path) -> None:
    process = shell("trap 'echo goodbye; exit 0' TERM; echo ready; while :; do sleep 0.01; done", tmp_path).start()
    process.wait_for("ready")
    process.stop()
    assert process.output == "ready\ngoodbye\n"


def test_stop_kills_what_does_not_end_and_its_children(tmp_path: Path) -> None:
    process = shell("trap '' TERM; sleep 100 & echo $!; wait; wait", tmp_path, stop_seconds=0.2).start()
    process.wait_for("\n")
    leader, child = process.pid, int(process.output)
    process.stop()
    wait_until(lambda: not is_running(leader) and not is_running(child), seconds=30, what="both gone")


def test_a_signal_goes_to_the_leader_only(tmp_path: Path) -> None:
    process = shell("trap 'echo caught' USR1; sleep 100 & echo $!; while :; do sleep 0.01; done", tmp_path).start()
    process.wait_for("\n")
    child = int(process.output)
    process.signal(signal.SIGUSR1)
    process.wait_for("caught")
    assert is_running(child)
    process.stop()


def test_a_line_of_the_procfile_gets_signals_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = "GREETING=hello sh -c 'echo $GREETING $NAME $$ $0; exec sleep 100'"
    monkeypatch.setattr(processes, "commands", lambda: {"worker": line})
    with Process.from_procfile("worker", log=tmp_path / "log", env={"NAME": "acme"}, extra="more") as process:
        process.wait_for("\n")
        assert process.output == f"hello acme {process.pid} more\n"


def test_it_runs_in_a_session_of_its_own_with_this_environments_commands_first(tmp_path: Path) -> None:
    with shell("echo $PATH; exec sleep 100", tmp_path) as process:
        process.wait_for("\n")
        assert os.getsid(process.pid) == process.pid
        assert "celery" in os.listdir(process.output.split(os.pathsep)[0])
