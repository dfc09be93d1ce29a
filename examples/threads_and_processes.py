"""Record one run with many workers: a thread pool, a process pool, asyncio tasks and a child program.

    python examples/threads_and_processes.py

asyncio tasks and ``asyncio.to_thread`` belong to the run by themselves. The workers of a pool do not, so pass
``run.bind(function)`` to the pool. Start a child program with ``env=run.env()``.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

from pyjama_instrument import agent_session, tool

__all__ = ["main"]

CHILD = "from pyjama_instrument import tool; print(tool('in_child_program')(sum)([1, 2, 3]))"


@tool
def square(number: int) -> int:
    """A tool that you can call in any thread or process."""
    return number * number


@tool
async def double(number: int) -> int:
    """An asynchronous tool."""
    await asyncio.sleep(0.001)
    return 2 * number


async def in_tasks() -> int:
    """Tasks and ``to_thread`` belong to the run without further code."""
    doubled = await asyncio.gather(*(double(number) for number in range(4)))
    return sum(doubled) + await asyncio.to_thread(square, 5)


def main() -> None:
    """Use four kinds of workers in one run."""
    with agent_session("many-workers", workflow=["threads", "processes", "tasks", "child"]) as run:
        with run.step("threads"), ThreadPoolExecutor(4) as threads:
            print("threads:", sum(threads.map(run.bind(square), range(4))))
        with run.step("processes"):
            spawn = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(2, mp_context=spawn) as processes:
                print("processes:", sum(processes.map(run.bind(square), range(4))))
        with run.step("tasks"):
            print("tasks:", asyncio.run(in_tasks()))
        with run.step("child"):
            child = subprocess.run(
                [sys.executable, "-c", CHILD], env=run.env(), check=True, capture_output=True, text=True
            )
            print("child:", child.stdout.strip())


if __name__ == "__main__":
    main()
