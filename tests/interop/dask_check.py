#!/usr/bin/env python3
"""Parts on a cluster of Dask against one process: the same records, also where a worker is killed.

    dask_check.py MODEL TEXT CALIBRATION        with the built package on PYTHONPATH, and dask[distributed]

Prints seconds of one process with two threads and of two workers with one thread each, and then with one of the
workers killed. In brackets the seconds of processor time: of the process, of the longer and the shorter worker; where
others use the machine too, those say more.
"""

import json
import os
import signal
import sys
import tempfile
import threading
import time

import dask
import distributed
import lieq

dask.config.set({"distributed.worker.daemon": False, "distributed.comm.timeouts.connect": "60s"})
MEASURED = {"seconds", "peak_bytes", "threads"}


def lasting(value):
    if isinstance(value, dict):
        return {key: lasting(each) for key, each in value.items() if key not in MEASURED}
    return [lasting(each) for each in value] if isinstance(value, list) else value


def kill_one(client, delay):
    """Kills a worker's process once it has worked for a while."""
    workers = client.run(os.getpid)
    timer = threading.Timer(delay, lambda: os.kill(next(iter(workers.values())), signal.SIGKILL))
    timer.start()
    return timer


def main():
    model, text, calibration = sys.argv[1:]
    folder = tempfile.mkdtemp(prefix="lieq-dask-")
    damage = dict(method="gptq", samples=16, context=512, calibration=calibration, damage_windows=4, damage_context=512)
    study = dict(texts=[text], windows=8, lengths="512", samples=16, context=512, calibration=[calibration],
                 method="gptq", group_size=64, most=3, rankings="compactness,energy")  # fmt: skip
    work = {
        "evaluate": lambda name, **more: lieq.evaluate(model, text=text, samples=64, **more),
        "sensitivity": lambda name, **more: lieq.sensitivity(model, f"{folder}/{name}.json", **damage, **more),
        "study layers": lambda name, **more: lieq.study("layers", model, f"{folder}/{name}", **study, **more),
    }
    good = True
    print(f"{'':<14} {'one process':>16} {'two workers':>22} {'ratio':>6} {'one killed':>11}  same")
    for command, run in work.items():
        begin, used = time.time(), time.process_time()
        expected = lasting(run("whole-" + command, threads=2))
        alone, processor = time.time() - begin, time.process_time() - used
        same = []
        seconds = []
        for killed in (False, True):
            with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, \
                    distributed.Client(cluster) as client:  # fmt: skip
                timer = kill_one(client, 0.4 * seconds[0]) if killed else None
                used = client.run(time.process_time)
                begin = time.time()
                found = run(f"parts-{killed}-" + command, threads=1, executor=client.get_executor(), parts=2)
                seconds.append(time.time() - begin)
                if timer is not None:
                    timer.join()
                else:
                    now = client.run(time.process_time)
                    workers = sorted((now[each] - used[each] for each in used), reverse=True)
                same.append(json.dumps(lasting(found)) == json.dumps(expected))
        good = good and all(same)
        ours, theirs = f"({processor:.1f})", "(" + ", ".join(f"{each:.1f}" for each in workers) + ")"
        print(f"{command:<14} {alone:>7.1f}s {ours:>7} {seconds[0]:>7.1f}s {theirs:>13} {seconds[0] / alone:>6.2f} "
              f"{seconds[1]:>10.1f}s  {same[0]} {same[1]}", flush=True)  # fmt: skip
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
