"""Runs documentation: doctest examples, ``await`` and ``async with`` at the top level included."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
import traceback
from typing import Any

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL


def run(test: doctest.DocTest) -> list[str]:
    """Execute the examples of *test* in their order; return a text for each that gave something else."""
    checker = doctest.OutputChecker()
    failures: list[str] = []
    with asyncio.Runner() as runner:
        for example in test.examples:
            flags = OPTIONS
            for option, value in example.options.items():
                flags = flags | option if value else flags & ~option
            if flags & doctest.SKIP:
                failures.append(f"{test.name}: an example is skipped: {example.source}")
                continue
            got, error = execute(example.source, test.globs, runner)
            if error is None:
                fine = example.exc_msg is None and checker.check_output(example.want, got, flags)
            else:
                said = "".join(traceback.format_exception_only(error))
                got += said
                fine = example.exc_msg is not None and said.partition(":")[0].endswith(
                    example.exc_msg.partition(":")[0]
                )
            if not fine:
                failures.append(f"{test.name}: {example.source.strip()}\nexpected: {example.want}\ngot: {got}")
    return failures


def execute(source: str, namespace: dict[str, Any], runner: asyncio.Runner) -> tuple[str, BaseException | None]:
    """What *source* prints, values of expressions included, and what it raises."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            for statement in ast.parse(source).body:
                single = ast.Interactive([statement])
                code = compile(single, "<example>", "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
                answer = eval(code, namespace)
                if inspect.iscoroutine(answer):
                    runner.run(answer)
        except Exception as exc:
            return output.getvalue(), exc
    return output.getvalue(), None
