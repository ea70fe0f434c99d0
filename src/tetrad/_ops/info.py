"""What a server says about itself."""

from __future__ import annotations

from typing import Literal

from tetrad.types import ServerInfo

_TOPOLOGIES: dict[str, Literal["single", "embedded"]] = {"embedded": "embedded"}


def server_info(kind: str, info: bytes) -> ServerInfo:
    """Read the reply to INFO (a bulk of ``name:value`` lines)."""
    fields = dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
    valkey = "valkey_version" in fields
    persistence = []
    if fields.get("aof_enabled") == "1":
        persistence.append("aof")
    if fields.get("rdb_saves", "0") != "0":
        persistence.append("rdb")
    return ServerInfo(
        server="valkey" if valkey else "redis",
        version=fields["valkey_version"] if valkey else fields.get("redis_version", ""),
        topology=_TOPOLOGIES.get(kind, "single"),
        persistence=tuple(persistence),
        replicas=int(fields.get("connected_slaves", "0")),
    )
