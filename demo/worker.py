"""One server process of the demo: serves on an inherited socket until its standard input ends.

The end of a pipe is the one thing that a parent can't fail to send, whichever way it dies: no worker outlives it.
"""

from __future__ import annotations

import asyncio
import socket
import sys

import uvicorn

from demo.app import app, feed


class Worker(uvicorn.Server):
    """A uvicorn server that ends its event streams when it stops; it would wait for them otherwise."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await feed.close()
        await super().shutdown(sockets)


async def serve(listener: socket.socket) -> None:
    """Serve until standard input ends."""
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=5,
        backlog=1,  # asyncio accepts so many at a time: whoever wakes first would take all, and the others none
    )
    server = Worker(config)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    listener.listen(512)  # how many the kernel keeps waiting is another matter
    print("ready", flush=True)
    end = asyncio.create_task(reader.read())
    await asyncio.wait({serving, end}, return_when=asyncio.FIRST_COMPLETED)
    end.cancel()
    server.should_exit = True
    await serving


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as inherited:
        asyncio.run(serve(inherited))
