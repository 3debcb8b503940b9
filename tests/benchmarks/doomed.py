"""Contenders that never answer. They stand apart, because their processes import nothing else of the tests."""

import os
import time


def dies(_):
    os._exit(3)


def sleeps(_):
    time.sleep(600)
