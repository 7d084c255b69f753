"""Figures: medians, percentiles, the speed of the disk, and how they are printed. In: numbers. Out: text."""

import os
import platform
import time


def median(values):
    ordered = sorted(values)
    return ordered[len(ordered) // 2]


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def fdatasync_ms(directory, times=200):
    """The median time of an fdatasync after a write of 4 KiB."""
    path, found = os.path.join(directory, "sync"), []
    with open(path, "wb") as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            found.append(time.perf_counter() - started)
    os.unlink(path)
    return median(found) * 1e3


def machine():
    """The machine in one line, with the load that others put on it."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, load {os.getloadavg()[0]:.1f}"


def number(name, default):
    """A number from the environment: the size of a run."""
    return int(os.environ.get(name, default))


def say(text):
    print(text, flush=True)
