"""Stop requests: which signals end a training after its step, and which are left alone."""

import signal

import pytest

from ittybitty.train.stop import StopSignals


@pytest.mark.parametrize(
    ("number", "received"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGHUP, "SIGTERM"), (signal.SIGINT, "SIGINT")]
)
def test_a_signal_is_a_request_and_handlers_come_back(number, received):
    before = signal.getsignal(number)
    with StopSignals() as stop:
        signal.raise_signal(number)
        assert stop.received == received
    assert signal.getsignal(number) == before


def test_a_hangup_that_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with StopSignals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.received == ""
    finally:
        signal.signal(signal.SIGHUP, before)
