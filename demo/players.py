"""Simulated players: real HTTP, all at once, each keeping its own account of what happened to it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx

from demo.record import Claim, Echo, Login, Play, Record

NAMES = (
    "Ada", "Alan", "Annie", "Barbara", "Bjarne", "Brian", "Claude", "Dana", "Dennis", "Donald", "Dorothy",
    "Edsger", "Evelyn", "Frances", "Grace", "Guido", "Hedy", "Ida", "Joan", "John", "Karen", "Katherine", "Ken",
    "Leslie", "Linus", "Lynn", "Margaret", "Mary", "Niklaus", "Radia", "Robin", "Rosa", "Shafi", "Sophie",
    "Steve", "Susan", "Tim", "Tony", "Vint", "Whitfield",
)  # fmt: skip
ADDRESSES = 8
PATIENCE = 15.0  # seconds for one answer
NO_TLS = ssl.SSLContext(
    ssl.PROTOCOL_TLS_CLIENT
)  # unused on plain http; httpx would load all root certificates per client


def names(count: int) -> list[str]:
    """*count* different names."""
    return [NAMES[i] if i < len(NAMES) else f"{NAMES[i % len(NAMES)]} {i // len(NAMES) + 1}" for i in range(count)]


def addresses() -> list[str]:
    """Local addresses to call from. Linux has all of 127.0.0.0/8; elsewhere everybody shares one."""
    many = [f"127.0.0.{10 + i}" for i in range(ADDRESSES)]
    try:
        with socket.socket() as trial:
            trial.bind((many[0], 0))
    except OSError:
        return ["127.0.0.1"]
    return many


class Unanswered(Exception):
    """No usable answer came; what was asked may have been done or not."""


class Player:
    """Plays until told to stop: logs in, spins, races for jackpots, logs out, comes back."""

    def __init__(self, name: str, address: str, base: str, record: Record, stop: asyncio.Event) -> None:
        self.name = name
        self.address = address
        self._base = base
        self._record = record
        self._stop = stop
        self._dice = random.Random(name)
        self._pace = self._dice.uniform(0.3, 0.8)  # seconds between spins; the limit is one a second
        self._greed = self._dice.uniform(0.2, 0.6)  # how often a jackpot is worth the race
        self._client = self._connect()
        self._spins = (0, 0)  # what the session must have counted: at least, at most
        self._raced = 0

    async def run(self) -> None:
        """Play until *stop* is set; the request under way is finished."""
        await self._sleep(self._dice.uniform(0, self._pace))
        while not self._stop.is_set():
            try:
                if await self._login():
                    for _ in range(self._dice.randrange(6, 20)):
                        if self._stop.is_set() or not await self._turn():
                            break
                    else:
                        await self._logout()
            except Unanswered:
                await self._reconnect(self._client.cookies)
                await self._sleep(0.2)
        await self._client.aclose()

    async def _turn(self) -> bool:
        """One spin, and perhaps one race; whether the session goes on."""
        answer = await self._play()
        if answer is None:
            return False
        jackpot = answer["jackpot"]
        if jackpot and jackpot["round"] > self._raced and jackpot["opens_in"] < 2 and self._dice.random() < self._greed:
            self._raced = jackpot["round"]
            await self._sleep(max(0.0, jackpot["opens_in"]) + self._dice.uniform(0.15, 0.6))
            if not self._stop.is_set():
                await self._claim(jackpot["round"])
        polite = self._dice.random() < 0.5
        await self._sleep(max(self._pace, answer.get("retry_after", 0) if polite else 0) * self._dice.uniform(0.7, 1.3))
        return True

    async def _login(self) -> bool:
        if self._client.cookies.get("arcade"):  # a spin's answer was lost, not the session
            return True
        self._spins = (0, 0)
        if not await self._enter(None):
            await self._sleep(0.5)
            return False
        if self._dice.random() < 0.2:  # logging in again gives a new id, keeps the data, and kills the old id
            old = self._client.cookies["arcade"]
            if not await self._enter(old):
                return False
            await self._must_be_dead(old)
        return True

    async def _enter(self, previous: str | None) -> bool:
        status, answer = await self._ask_once("login", "/api/login", {"name": self.name})
        if status == 200:
            self._record.logins.append(Login(self.name, self._client.cookies["arcade"], previous))
            self._saw(answer)
        return status == 200

    async def _logout(self) -> None:
        old = self._client.cookies["arcade"]
        status, _ = await self._ask_once("logout", "/api/logout")
        if status == 200:
            self._record.logouts += 1
            await self._reconnect()
            await self._must_be_dead(old)

    async def _ask_once(self, kind: str, path: str, content: Any = None) -> tuple[int, dict[str, Any]]:
        """Ask for a new session id. If that fails, the old one may or may not be dead: forget it."""
        status = 0
        try:
            status, answer, _ = await self._ask(kind, "POST", path, content)
        finally:
            if status != 200:
                self._client.cookies.clear()
        return status, answer

    async def _must_be_dead(self, session: str) -> None:
        """Look whether anybody is still behind an id that was given up."""
        async with self._connect() as other:
            other.cookies.set("arcade", session)
            status, answer, _ = await self._ask("me", "GET", "/api/me", client=other)
        if status in (200, 401):
            self._record.echoes.append(Echo(None, answer.get("player")))

    async def _play(self) -> dict[str, Any] | None:
        sent = time.monotonic()
        low, high = self._spins
        try:
            status, answer, received = await self._ask("play", "POST", "/api/play")
        except Unanswered:
            self._spins = (low, high + 1)
            self._record.plays.append(Play(self.name, self.address, sent, time.monotonic(), "unknown"))
            raise
        if status == 401:
            self._lost()
            return None
        if status == 200:
            self._spins = (low + 1, high + 1)
            self._saw(answer)
            points, score = answer["points"], answer["score"]
            self._record.plays.append(Play(self.name, self.address, sent, received, "admitted", points, score))
        elif status == 429:
            self._saw(answer)
            self._record.plays.append(Play(self.name, self.address, sent, received, "refused"))
        else:
            self._spins = (low, high + 1)
            self._record.plays.append(Play(self.name, self.address, sent, received, "unknown"))
            raise Unanswered
        return answer

    async def _claim(self, number: int) -> None:
        try:
            status, answer, _ = await self._ask("claim", "POST", "/api/jackpot", {"round": number})
        except Unanswered:
            self._record.claims.append(Claim(self.name, number, "unknown"))
            raise
        if status == 401:
            self._lost()
        elif status == 200:
            self._saw(answer)
            facts = {key: answer[key] for key in ("prize", "fence", "asked", "acquired", "left")}
            self._record.claims.append(Claim(self.name, number, "won" if answer["won"] else "lost", **facts))
        else:
            self._record.claims.append(Claim(self.name, number, "unknown"))

    def _saw(self, answer: dict[str, Any]) -> None:
        """Note who the server took us for. Its count of spins settles what a lost answer had left open."""
        spins = answer["spins"]
        self._record.echoes.append(Echo(self.name, answer["player"], spins, *self._spins))
        self._spins = (spins, spins)

    def _lost(self) -> None:
        self._record.echoes.append(Echo(self.name, None))
        self._client.cookies.clear()

    async def _ask(
        self, kind: str, method: str, path: str, content: Any = None, client: httpx.AsyncClient | None = None
    ) -> tuple[int, dict[str, Any], float]:
        """Status, body and the time of the answer; `Unanswered` when the connection broke or nothing sensible came."""
        start = time.monotonic()
        try:
            response = await (client or self._client).request(method, path, json=content)
            answer = response.json()
        except (httpx.HTTPError, ValueError) as error:
            self._record.answers[0] += 1
            raise Unanswered from error
        received = time.monotonic()
        self._record.answers[response.status_code] += 1
        self._record.latencies[kind].append(received - start)
        if "worker" in answer:
            self._record.workers[answer["worker"]] += 1
        return response.status_code, answer, received

    def _connect(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(verify=NO_TLS, local_address=self.address)
        return httpx.AsyncClient(base_url=self._base, transport=transport, timeout=PATIENCE, trust_env=False)

    async def _reconnect(self, cookies: httpx.Cookies | None = None) -> None:
        """A new connection, perhaps to another worker, with *cookies* or none."""
        await self._client.aclose()
        self._client = self._connect()
        self._client.cookies = cookies or httpx.Cookies()

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()


async def watch(base: str, record: Record, stop: asyncio.Event) -> None:
    """A spectator: keep an event stream open, and count what comes. When it breaks, open it again, as browsers do."""
    async with httpx.AsyncClient(base_url=base, timeout=PATIENCE, verify=NO_TLS, trust_env=False) as client:
        while not stop.is_set():
            with contextlib.suppress(httpx.HTTPError):
                async for event in stream(client):
                    record.events += event == "board"
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.3):
                    await stop.wait()


async def stream(client: httpx.AsyncClient) -> AsyncIterator[str]:
    """The names of the events, as they come."""
    async with client.stream("GET", "/api/events") as response:
        async for line in response.aiter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


async def play(base: str, count: int, record: Record, stop: asyncio.Event) -> None:
    """Run *count* players and two spectators until *stop* is set and all requests under way are answered."""
    where = addresses()
    players = [Player(name, where[i % len(where)], base, record, stop) for i, name in enumerate(names(count))]
    spectators = [asyncio.create_task(watch(base, record, stop)) for _ in range(2)]
    try:
        async with asyncio.TaskGroup() as group:
            for player in players:
                group.create_task(player.run())
            await stop.wait()
    finally:
        for spectator in spectators:
            spectator.cancel()
        await asyncio.gather(*spectators, return_exceptions=True)
