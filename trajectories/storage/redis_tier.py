"""The Redis tier: records with a time to live, and a change feed for the other hosts.

Every key begins with the identity of its store, so stores may share a Redis. Each record has one
hash. Each tenant has the keys below. They are hash-tagged by the tenant, so
that one script may use them on a cluster too.

- ``sequence`` counts changes.
- ``feed`` is a sorted set of ids by their last change.
- ``positions`` is a sorted set of ids by ``recorded_at_us``.
- ``feed_floor`` and ``positions_floor`` say below which score ids were trimmed: both sets keep
  their highest members.

``epoch`` says that Redis holds everything it should, and on which server: it ends with the
replication id. The epoch does not name a server that was wiped, restarted or failed over. Readers
treat such a server as incomplete until a worker has rebuilt it. Commands are those of Redis 6.2.

Releases before store identities wrote keys without one. An ``epoch`` of theirs means that their
workers may have written records there alone, so readers do not trust the server. ``rebuild`` takes
these records from the archive and drops those keys.
"""

from __future__ import annotations

import glob
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID, uuid4

import orjson
from django.core.cache import caches
from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import RedisError, ResponseError

from trajectories.conf import Settings
from trajectories.domain.clock import SECOND_US, epoch_us
from trajectories.domain.compression import compress, decompress
from trajectories.domain.record import LOWEST_ID, Position, Record
from trajectories.storage.redis_scripts import CHANGE_KEY, DELETE, MERGE, TRIM, WITHDRAW
from trajectories.storage.redis_values import checked, moment_us, number

__all__ = ["RedisError", "ResponseError"]

_FIELDS = ("stamp", "digest", "revision", "recorded_at_us", "body", "outcomes")
_BODY_AT = _FIELDS.index("body")
_FILL_CHUNK = 500
_SCAN_COUNT = 1_000
_CHANGED_KEYS = 10_000
_CHANGED_KEYS_S = 2 * 24 * 3600
"""Longer than a host remembers a key by default (``key_offline_s``)."""
REBUILDING = "rebuilding"
SETTLING = "settling"
RETAINING = "retaining"

Stamps: TypeAlias = tuple[int, str, int, int]
"""Stamp, digest, revision and recorded_at_us of a key."""

Ids: TypeAlias = list[tuple[str, UUID]]
"""Pairs of tenant and id."""


class FeedMark(NamedTuple):
    """The progress of a reader: the server, whether it is complete, and the last sequence seen."""

    epoch: str
    replication_id: str
    sequence: int

    @property
    def is_trusted(self) -> bool:
        """Whether the server holds everything that it should."""
        return self.epoch.endswith(":" + self.replication_id)


class Change(NamedTuple):
    """A change of an id in the feed: its current record, its withdrawal, or its deletion.

    A key that no longer exists is not a change.
    """

    id: UUID
    record: Record | None = None
    withdrawn_stamp: int | None = None
    is_deletion: bool = False


class Fill(NamedTuple):
    """The records at the highest positions.

    - ``missing``: ids there whose keys expired or were withdrawn, with ``recorded_at_us``. The
      archive may have them.
    - ``floor``: nothing but ``missing`` is missing at and above it; None if that is unknown.
    - ``has_more``: Redis also knows records below the floor.
    """

    records: list[Record]
    missing: dict[UUID, int]
    floor: Position | None
    has_more: bool


class RedisTier:
    """Commands of the tier on one connection pool, that of the cache alias in the settings.

    They raise RedisError unchanged; readers get ``UnreadableValue`` for what cannot be parsed.
    """

    def __init__(
        self,
        client: Redis,
        base: str,
        identity: str,
        *,
        ttl_s: int,
        tombstone_ttl_s: int,
        keep: int,
        is_compressing: bool,
    ) -> None:
        self._client = client
        self._base = base
        self._prefix = f"{base}{identity}:"
        self._ttl_s = ttl_s
        self._tombstone_ttl_s = tombstone_ttl_s
        self._keep = keep
        self._is_compressing = is_compressing
        self._merge = client.register_script(MERGE)
        self._withdraw = client.register_script(WITHDRAW)
        self._delete = client.register_script(DELETE)
        self._trim = client.register_script(TRIM)
        self._change_key = client.register_script(CHANGE_KEY)

    # Used by the persist side.

    def merge(self, records: Sequence[Record], *, from_authority: bool) -> list[Stamps]:
        """Store each record unless the stored version is newer, by the rule of ``record.merge``.

        Returns:
            The stamps that each id has now.
        """
        with self._client.pipeline(transaction=False) as pipe:
            for r in records:
                stamps = (r.stamp, r.digest, r.revision, r.recorded_at_us)
                body = compress(r.body) if self._is_compressing else r.body
                args: list[str | bytes | int] = [
                    str(r.id),
                    *stamps,
                    body,
                    self._ttl_of(r),
                    int(from_authority),
                    r.outcomes,
                ]
                self._merge(keys=self._keys(r.tenant, r.id), args=args, client=pipe)
            for tenant in sorted({record.tenant for record in records}):
                names = ("feed", "positions", "feed_floor", "positions_floor")
                self._trim(keys=[self._key(tenant, name) for name in names], args=[self._keep], client=pipe)
            replies = pipe.execute()[: len(records)]
        return [(int(stamp), digest.decode(), int(revision), int(at)) for stamp, digest, revision, at in replies]

    def _ttl_of(self, record: Record) -> int:
        """Return how long after its revision Redis keeps a record: an outcome makes it current
        again."""
        if not record.outcomes:
            return self._ttl_s
        newest_us = epoch_us(datetime.fromisoformat(orjson.loads(record.outcomes)[-1]["recorded_at"]))
        return self._ttl_s + max(0, newest_us - record.revision) // SECOND_US

    def open_batch(self, ids: Ids) -> str:
        """Record that the archive may soon have changes of ``ids`` that Redis does not have.

        The batch stays until ``close_batch``, so that another worker completes the batch of a
        killed one.

        Returns:
            The name of the batch.
        """
        name = orjson.dumps([uuid4().hex, [(tenant, str(id_)) for tenant, id_ in ids]]).decode()
        self._client.zadd(self._prefix + "open", {name: time.time()})
        return name

    def close_batch(self, name: str) -> None:
        """Close a batch: Redis has the archive's result of it."""
        self._client.zrem(self._prefix + "open", name)

    @checked
    def open_batches(self, older_than_s: float, limit: int) -> dict[str, Ids]:
        """Return batches that have been open for at least ``older_than_s``, by name."""
        # A batch of a host with a fast clock may have a time in the future.
        now, key = time.time(), self._prefix + "open"
        names: list[Any] = self._client.zrangebyscore(key, 0, now - older_than_s, 0, limit)
        names += self._client.zrangebyscore(key, now + older_than_s, "+inf", 0, limit)
        return {name.decode(): [(tenant, UUID(id_)) for tenant, id_ in orjson.loads(name)[1]] for name in names}

    def withdraw(self, record: Record, *, has_older: bool) -> None:
        """Withdraw this version, so that no reader sees it. A newer version may still be stored.

        Args:
            has_older: the archive has an older version, so fills must not treat Redis as complete
                at this position.
        """
        args: list[str | int] = [str(record.id), record.stamp, record.digest, self._ttl_s, int(has_older)]
        self._withdraw(keys=self._keys(record.tenant, record.id), args=args)

    def delete(self, tombstones: Sequence[Record]) -> int:
        """Delete these ids and refuse later versions; return the number of records deleted."""
        with self._client.pipeline(transaction=False) as pipe:
            for r in tombstones:
                args: list[str | int] = [str(r.id), r.stamp, self._tombstone_ttl_s]
                self._delete(keys=self._keys(r.tenant, r.id), args=args, client=pipe)
            return sum(map(int, pipe.execute()))

    def erase(self, tenant: str, ids: Iterable[UUID]) -> int:
        """Delete these records of an erased tenant, and its feed.

        Returns:
            The number of keys deleted.
        """
        names = ["sequence", "feed", "positions", "feed_floor", "positions_floor"]
        return int(
            self._client.unlink(*(self._key(tenant, name) for name in [*names, *(f"record:{id_}" for id_ in ids)]))
        )

    def erase_all(self, tenant: str) -> int:
        """Delete every key of ``tenant``.

        This scans every key of the Redis database in steps.

        Returns:
            The number of keys deleted.
        """
        pattern = glob.escape(self._key(tenant, ""))
        return sum(int(self._client.unlink(key)) for key in self._client.scan_iter(pattern + "*", count=_SCAN_COUNT))

    def find_traces(self, tenant: str, markers: Sequence[bytes]) -> tuple[int, int]:
        """Count traces of ``tenant`` in this Redis.

        Returns:
            The number of keys named after it, and of keys of the tier whose content has one of
                ``markers``.
        """
        name = self._key(tenant, "").encode()
        names = values = 0
        for key in self._client.scan_iter(count=_SCAN_COUNT):
            names += key.startswith(name)
            values += key.startswith(self._prefix.encode()) and any(marker in self._content(key) for marker in markers)
        return names, values

    def _content(self, key: bytes) -> bytes:
        """Return the content of a key of the tier; for a hash, including its field names."""
        kind: Any = self._client.type(key)
        parts: Any
        if kind == b"hash":
            fields: Any = self._client.hgetall(key)
            parts = chain.from_iterable(
                (name, decompress(value) if name == b"body" else value) for name, value in fields.items()
            )
        elif kind == b"zset":
            parts = self._client.zrange(key, 0, -1)
        else:
            parts = [self._client.get(key)]
        return b"\0".join(part or b"" for part in parts)

    def rewrite_files(self) -> None:
        """Start rewriting the Redis files, so that they keep no deleted data.

        Raises:
            ResponseError: Redis does not allow its clients to do this.
        """
        if self._client.info("persistence")["aof_enabled"]:
            self._client.bgrewriteaof()
        # A dump may exist without a save rule: a command wrote it, or the rule was removed later.
        if self._client.config_get("save")["save"] or any(Path(path).is_file() for path in self.files()[:1]):
            self._client.bgsave(schedule=True)

    def is_writing_files(self) -> bool:
        info: Any = self._client.info("persistence")
        names = "rdb_bgsave_in_progress", "aof_rewrite_in_progress", "aof_rewrite_scheduled"
        return any(info[name] for name in names)

    def files(self) -> list[str]:
        """Return paths of the files that Redis writes on its host; none if it does not say."""
        try:
            config: Any = self._client.config_get("*dir*") | self._client.config_get("*filename")
        except ResponseError:
            return []
        base = Path(config["dir"])
        logs = base / config.get("appenddirname", "")
        return [str(path) for path in (base / config["dbfilename"], *logs.glob(config["appendfilename"] + "*"))]

    @checked
    def under_way(self, tenant: str) -> set[UUID] | None:
        """Return the ids of ``tenant`` in open batches: a worker may still write them.

        None: Redis may have lost batches.
        """
        names: list[Any] = self._client.zrange(self._prefix + "open", 0, -1)
        if not self.is_trusted():
            return None
        return {UUID(id_) for name in names for one, id_ in orjson.loads(name)[1] if one == tenant}

    @checked
    def is_under_way(self, tenant: str) -> bool:
        """Return whether an open batch has records of ``tenant``."""
        names: list[Any] = self._client.zrange(self._prefix + "open", 0, -1)
        return any(tenant == one for name in names for one, _ in orjson.loads(name)[1])

    @checked
    def depth_under_way(self, tenant: str) -> int:
        """Return how many of the highest positions reach down to every record of an open batch."""
        names: list[Any] = self._client.zrange(self._prefix + "open", 0, -1)
        ids = [id_ for name in names for of, id_ in orjson.loads(name)[1] if of == tenant]
        key = self._key(tenant, "positions")
        scores: list[Any] = self._client.zmscore(key, ids) if ids else []
        lowest = min((score for score in scores if score is not None), default=None)
        return 0 if lowest is None else int(self._client.zcount(key, lowest, "+inf"))

    def claim(self, work: str, for_s: float) -> bool:
        """Return whether this caller may start ``work``; others may not for ``for_s`` seconds."""
        return bool(self._client.set(self._prefix + work, "1", nx=True, px=int(for_s * 1000)))

    def release(self, work: str) -> None:
        """Release ``work`` for the next caller."""
        self._client.delete(self._prefix + work)

    def hold_rebuild(self, for_s: float, *, is_begun: bool) -> bool:
        """Prevent other rebuilds for ``for_s`` seconds.

        Returns:
            False if a rebuild that ``is_begun`` lost its key to a wipe and must start again.
        """
        return bool(self._client.set(self._prefix + REBUILDING, "1", px=int(for_s * 1000), xx=is_begun))

    def drop_unnamed_keys(self) -> None:
        """Delete the keys of releases before store identities, if their workers left an epoch.

        A worker of such a release that still runs writes an epoch again; so does another store's.
        """
        if self._client.delete(self._base + "epoch"):
            self._client.unlink(*(self._base + name for name in ("open", REBUILDING, SETTLING, RETAINING)))
            for key in self._client.scan_iter(glob.escape(self._base) + "{*", count=_SCAN_COUNT):
                self._client.unlink(key)

    def begin_epoch(self, replication_id: str) -> None:
        """Mark the server with this replication id as complete; allow a next rebuild at once."""
        self._client.set(self._prefix + "epoch", f"{uuid4().hex}:{replication_id}")
        self.release(REBUILDING)

    def is_trusted(self) -> bool:
        """Return whether this server holds everything that it should."""
        return self.mark("").is_trusted

    def server(self) -> tuple[str, str]:
        """Return epoch and replication id. If both are unchanged, Redis has lost nothing since."""
        mark = self.mark("")
        return mark.epoch, mark.replication_id

    def replication_id(self) -> str:
        return str(self._client.info("replication")["master_replid"])

    # API keys that were changed or revoked, for the relays of the other hosts.

    def change_key(self, prefix: str, at_us: int) -> None:
        """Tell other hosts that a key has changed. Redis keeps this for two days."""
        args: list[str | int] = [prefix, at_us, _CHANGED_KEYS, _CHANGED_KEYS_S]
        self._change_key(keys=[self._prefix + "changed_keys"], args=args)

    @checked
    def changed_keys(self, after: int) -> dict[str, int]:
        """Return the prefixes of keys that changed later than ``after``, each with its number."""
        found: list[Any] = self._client.zrangebyscore(
            self._prefix + "changed_keys", f"({after}", "+inf", withscores=True
        )
        return {prefix.decode(): number(at) for prefix, at in found}

    # Used by readers.

    @checked
    def mark(self, tenant: str) -> FeedMark:
        """Return the current mark of the feed of ``tenant``."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._prefix + "epoch")
            pipe.get(self._base + "epoch")
            pipe.info("replication")
            pipe.get(self._key(tenant, "sequence"))
            epoch, is_mixed, info, sequence = pipe.execute()
        known = b"" if is_mixed or epoch is None else epoch
        return FeedMark(known.decode(), str(info["master_replid"]), number(sequence))

    @checked
    def changes(self, tenant: str, after: FeedMark, most: int = 2**53) -> tuple[FeedMark, list[Change]] | None:
        """Return the changes since ``after``, and the new mark.

        Return None if Redis cannot determine the changes, or if they are more than ``most``, so
        that the reader must fill again.
        """
        mark = self.mark(tenant)
        if mark[:2] != after[:2] or mark.sequence < after.sequence:
            return None
        if mark.sequence == after.sequence:
            return mark, []
        if mark.sequence - after.sequence > most:
            return None
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._key(tenant, "feed_floor"))
            pipe.zrangebyscore(self._key(tenant, "feed"), f"({after.sequence}", mark.sequence)
            floor, ids = pipe.execute()
        if number(floor) > after.sequence:
            return None
        return mark, list(self._changes(tenant, ids))

    @checked
    def newest(self, tenant: str, limit: int) -> Fill:
        """Return the records at the ``limit`` highest positions."""
        with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._key(tenant, "positions_floor"))
            pipe.zrange(self._key(tenant, "positions"), 0, limit - 1, desc=True, withscores=True)
            forgotten_us, listed = pipe.execute()
        # Below this position, keys of records that were never revised have begun to expire.
        complete_above_us = max(number(forgotten_us), (int(time.time()) - self._ttl_s) * 1_000_000)
        floor = Position(complete_above_us + 1, LOWEST_ID)
        lowest = Position(number(listed[-1][1]), UUID(listed[-1][0].decode())) if len(listed) == limit else floor
        has_more, floor = lowest > floor, max(floor, lowest)
        places = {id_: number(at) for id_, at in listed if at >= floor.recorded_at_us}
        found = list(zip(self._records(tenant, list(places)), places.values(), strict=True))
        records = [record for (_, record), _ in found if record and record.position >= floor]
        return Fill(records, {id_: at for (id_, record), at in found if record is None}, floor, has_more)

    @checked
    def changes_for(self, tenant: str, ids: Iterable[UUID]) -> list[Change]:
        """Return the changes of ``ids``; ids that Redis does not know are left out."""
        return list(self._changes(tenant, [str(id_).encode() for id_ in ids]))

    @checked
    def find(self, tenant: str, id_: UUID) -> Record | None:
        """Return the record; None if Redis does not have it."""
        values = self._client.hmget(self._record_key(tenant, str(id_)), _FIELDS)
        return _record(tenant, id_, values)

    @checked
    def find_many(self, tenant: str, ids: Iterable[UUID]) -> list[Record]:
        """Return those of ``ids`` that Redis has, as records."""
        found = self._records(tenant, [str(id_).encode() for id_ in ids])
        return [record for _, record in found if record]

    def _changes(self, tenant: str, ids: Sequence[bytes]) -> Iterator[Change]:
        for id_, values in self._hashes(tenant, ids, (*_FIELDS, "withdrawn", "deleted")):
            *_, withdrawn, deleted = values
            if deleted is not None:
                yield Change(id_, is_deletion=True)
            elif withdrawn is not None:
                yield Change(id_, withdrawn_stamp=number(values[0]))
            elif record := _record(tenant, id_, values):
                yield Change(id_, record)

    def _records(self, tenant: str, ids: Sequence[bytes]) -> Iterator[tuple[UUID, Record | None]]:
        for id_, values in self._hashes(tenant, ids, _FIELDS):
            yield id_, _record(tenant, id_, values)

    def _hashes(self, tenant: str, ids: Sequence[bytes], fields: Sequence[str]) -> Iterator[tuple[UUID, list[Any]]]:
        for start in range(0, len(ids), _FILL_CHUNK):
            chunk = [id_.decode() for id_ in ids[start : start + _FILL_CHUNK]]
            with self._client.pipeline(transaction=False) as pipe:
                for id_ in chunk:
                    pipe.hmget(self._record_key(tenant, id_), fields)
                yield from zip(map(UUID, chunk), pipe.execute(), strict=True)

    def _keys(self, tenant: str, id_: UUID) -> list[str]:
        names = ("sequence", "feed", "positions")
        return [self._record_key(tenant, str(id_)), *(self._key(tenant, name) for name in names)]

    def _record_key(self, tenant: str, id_: str) -> str:
        return self._key(tenant, "record:" + id_)

    def _key(self, tenant: str, name: str) -> str:
        return f"{self._prefix}{{{tenant}}}:{name}"


def _record(tenant: str, id_: UUID, values: Sequence[Any]) -> Record | None:
    *stamps, body, outcomes = values[: len(_FIELDS)]
    if body is None:
        return None
    stamp, digest, revision, at_us = stamps
    return Record.from_row(
        (tenant, id_, moment_us(stamp), digest, moment_us(revision), moment_us(at_us), decompress(body), outcomes)
    )


def connect(conf: Settings, identity: str) -> RedisTier:
    """Return the tier of the store ``identity`` on the cache alias of ``conf``.

    Opens no connection yet.
    """
    return RedisTier(
        get_redis_connection(conf.cache_alias),
        base_prefix(conf),
        identity,
        ttl_s=conf.redis_ttl_s,
        tombstone_ttl_s=conf.tombstone_keep_s,
        keep=2 * conf.hot_max_records,
        is_compressing=conf.compress_bodies,
    )


def base_prefix(conf: Settings) -> str:
    """Return the prefix that the keys of all stores on the cache alias have."""
    return str(caches[conf.cache_alias].make_key("trajectories:"))


def answer_probe(conf: Settings, name: str) -> None:
    """Let ``take_answer`` of another process find ``name`` for a minute."""
    get_redis_connection(conf.cache_alias).set(f"{base_prefix(conf)}probe:{name}", "1", ex=60)


def take_answer(conf: Settings, name: str) -> bool:
    """Return whether ``answer_probe`` was called with this name."""
    return bool(get_redis_connection(conf.cache_alias).delete(f"{base_prefix(conf)}probe:{name}"))
