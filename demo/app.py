"""The web application: log in, spin, race for the jackpot, watch the board. It keeps no state of its own.

Start as many processes of it as you like: sessions, limits, the lock and the board are in the server that
``TETRAD_URL`` names (an embedded one in ``.demo/`` when it is not set), payments are in the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from demo.feed import Feed
from demo.ledger import Ledger, PaymentRefused
from demo.rules import ADDRESS_LIMIT, PLAYER_LIMIT, REELS, worth
from tetrad import AsyncSession, AsyncTetrad, Decision, Entry, LeaseLost, LockTimeout, TetradError

STATIC = Path(__file__).parent / "static"
COOKIE = "arcade"
PAYMENT_TAKES = 0.15  # seconds, as with a real payment provider: long enough for two to be paid, were there no lock

tetrad = AsyncTetrad(os.environ.get("TETRAD_URL") or "embedded:.demo", prefix=os.environ.get("ARCADE_PREFIX", "arcade"))
sessions = tetrad.sessions("players", idle=1800, absolute=86400)
per_player = tetrad.limiter("spins by player", PLAYER_LIMIT)  # as text: "1/second; burst=5"
per_address = tetrad.limiter("spins by address", ADDRESS_LIMIT)
board = tetrad.leaderboard("season", keep="sum")
jackpot = tetrad.lock("jackpot", ttl=3)
ledger = Ledger(os.environ.get("ARCADE_LEDGER", ".demo/ledger.sqlite"))
feed = Feed(board, ledger)


async def home(request: Request) -> Response:
    """The page."""
    return FileResponse(STATIC / "index.html")


async def login(request: Request) -> Response:
    """Log in with any name. Whoever had a session goes on with its data, but under a new id: the old one is dead."""
    name = (await body(request)).get("name")
    if not isinstance(name, str) or not 1 <= len(name := " ".join(name.split())) <= 20 or not name.isprintable():
        raise HTTPException(422, "A name has 1 to 20 printable characters.")
    session = await current(request) or await sessions.create({"spins": 0})
    await session.login(name)
    return with_cookie(JSONResponse(await card(session, name)), session.id)


async def logout(request: Request) -> Response:
    """Log out: the session's id is dead at once, here and in every other process."""
    session = await current(request)
    if session is not None:
        await session.destroy()
    response = JSONResponse({"player": None})
    response.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return response


async def me(request: Request) -> Response:
    """Who the server thinks you are, and where you stand."""
    return JSONResponse(await card(*await player(request)))


async def play(request: Request) -> Response:
    """One spin, if the player and the address are within their limits."""
    session, name = await player(request)
    address = request.client.host if request.client else "unknown"
    # Two keys, so two decisions. Several limits on one key are decided together, in one.
    for scope, decision in (
        ("player", await per_player.hit(name)),
        ("address", await per_address.hit(address)),
    ):
        if not decision:
            return refused(session, scope, decision)
    reels = [secrets.choice(REELS) for _ in range(3)]
    points = worth(reels)
    placement = await board.submit(name, points)
    session["spins"] += 1
    await session.save()
    feed.hurry()
    return JSONResponse(
        {
            **identity(session),
            "reels": reels,
            "points": points,
            "score": int(placement.score),
            "rank": placement.rank,
            "previous_rank": placement.previous_rank,
            "jackpot": feed.jackpot(),
        }
    )


async def claim(request: Request) -> Response:
    """Claim the jackpot of a round. However many claim it, in whichever processes: one of them is paid."""
    session, name = await player(request)
    number = (await body(request)).get("round")
    if type(number) is not int:
        raise HTTPException(422, 'Say which round you claim: {"round": 7}.')
    asked = time.monotonic()
    try:
        async with jackpot.hold(timeout=10) as lease:
            acquired = time.monotonic()
            state = await ledger.state()
            if won := state.round == number and state.opens_in <= 0:
                await asyncio.sleep(PAYMENT_TAKES)
                lease.check()
                await ledger.pay(number, name, state.prize, lease.fence)
            left = time.monotonic()
    except LockTimeout:
        raise HTTPException(409, "Too many players at the door. Try the next round.") from None
    except LeaseLost:
        raise HTTPException(409, "The claim took too long. The ledger knows whether it was paid.") from None
    except PaymentRefused as refusal:
        raise HTTPException(409, f"The ledger refused the payment: {refusal.reason}.") from None
    feed.hurry()
    return JSONResponse(
        {
            **identity(session),
            "round": number,
            "won": won,
            "prize": state.prize if won else 0,
            "fence": lease.fence,
            "asked": asked,
            "acquired": acquired,
            "left": left,
            "jackpot": feed.jackpot(),
        }
    )


async def events(request: Request) -> Response:
    """The board and the jackpot as server-sent events, for as long as the page is open."""
    return StreamingResponse(feed.listen(), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def health(request: Request) -> Response:
    """Whether this process and the server behind it answer."""
    return JSONResponse({"worker": os.getpid(), "ping_ms": round(1000 * await tetrad.ping(), 3)})


async def current(request: Request) -> AsyncSession | None:
    """The session that the cookie names, if there is one."""
    id = request.cookies.get(COOKIE)
    return await sessions.load(id) if id else None


async def player(request: Request) -> tuple[AsyncSession, str]:
    """The session of somebody who is logged in, and who that is."""
    session = await current(request)
    if session is None or session.user is None:
        raise HTTPException(401, "Log in first.")
    return session, session.user


async def body(request: Request) -> dict[str, Any]:
    """The JSON object of a request."""
    with contextlib.suppress(ValueError):
        value = await request.json()
        if isinstance(value, dict):
            return value
    raise HTTPException(400, "The body must be a JSON object.")


def identity(session: AsyncSession) -> dict[str, Any]:
    """What every answer says: who the server thinks is asking, and which process answered."""
    return {"player": session.user, "spins": session["spins"], "worker": os.getpid()}


async def card(session: AsyncSession, name: str) -> dict[str, Any]:
    """A player's place, with the neighbours."""
    around = await board.around(name, 1)
    return {**identity(session), "around": [row(entry) for entry in around], "jackpot": feed.jackpot()}


def row(entry: Entry) -> dict[str, Any]:
    """A line of the board, as the page wants it."""
    return {"rank": entry.rank, "player": entry.member, "score": int(entry.score)}


def refused(session: AsyncSession, scope: str, decision: Decision) -> Response:
    """429, with the seconds to wait in the body and, for machines, in the headers."""
    content = {
        **identity(session),
        "error": f"Too fast: the limit per {scope} is reached.",
        "scope": scope,
        "retry_after": decision.retry_after,
        "jackpot": feed.jackpot(),
    }
    return JSONResponse(content, 429, decision.headers())


def with_cookie(response: Response, id: str) -> Response:
    # secure=True belongs here as soon as the site has TLS; browsers drop Secure cookies on plain http.
    response.set_cookie(COOKIE, id, max_age=86400, httponly=True, samesite="strict")
    return response


async def unavailable(request: Request, error: Exception) -> Response:
    """The server behind us can't be reached, or refused: say so, rather than fail in a heap."""
    content = {"error": "The arcade is closed for a moment. Nothing is lost; try again.", "detail": str(error)}
    return JSONResponse(content, 503, {"Retry-After": "1"})


async def as_json(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


class Headers:
    """Pure ASGI: no script, style or frame from anywhere else."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((b"content-security-policy", b"default-src 'self'; frame-ancestors 'none'"))
                message["headers"].append((b"x-content-type-options", b"nosniff"))
            await send(message)

        await self.app(scope, receive, sending)


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with tetrad, feed:
        yield
    ledger.close()


app = Starlette(
    routes=[
        Route("/", home),
        Route("/api/login", login, methods=["POST"]),
        Route("/api/logout", logout, methods=["POST"]),
        Route("/api/me", me),
        Route("/api/play", play, methods=["POST"]),
        Route("/api/jackpot", claim, methods=["POST"]),
        Route("/api/events", events),
        Route("/health", health),
        Mount("/static", StaticFiles(directory=STATIC)),
    ],
    middleware=[Middleware(Headers)],
    exception_handlers={TetradError: unavailable, HTTPException: as_json},
    lifespan=lifespan,
)
