"""The Hub's HTTP on this machine: data set repositories, tokens, commits and large files.

It answers what huggingface_hub and datasets send, and keeps what arrives. Large files take the LFS
way, which the library uses where Xet is off (``HF_HUB_DISABLE_XET``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

SMALL_BYTES = 2_000
"""A file smaller than this is sent in the commit, unless its name says that it is large."""


@dataclass
class Repository:
    """A repository: its files now, and the operations of each commit."""

    is_private: bool
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b"*.parquet filter=lfs\n"})
    commits: list[list[dict[str, Any]]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        parts = [f"{name}:{hashlib.sha1(data).hexdigest()}" for name, data in sorted(self.files.items())]
        return hashlib.sha1(f"{len(self.commits)} {parts}".encode()).hexdigest()


@dataclass
class Fault:
    """The answer to the next requests whose method and path match; status None breaks the
    connection."""

    pattern: re.Pattern[str]
    status: int | None
    times: int
    headers: Mapping[str, str]
    is_after: bool
    skip: int


class HubServer:
    """Repositories and objects by their names; ``requests`` has each request as ``METHOD path``."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.writers: dict[str, str] = {"hf_writer": "org"}
        """Tokens, each with the organization to which it may write; empty: to none."""
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def fail(
        self,
        pattern: str,
        status: int | None,
        *,
        times: int = 1,
        skip: int = 0,
        is_after: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Answer the next matching requests with an error.

        Args:
            skip: so many of them are answered as usual first.
            is_after: do what was asked, and then answer with the error.
        """
        self.faults.append(Fault(re.compile(pattern), status, times, headers or {}, is_after, skip))

    def sent(self, pattern: str) -> list[str]:
        """Return the requests that match."""
        return [request for request in self.requests if re.search(pattern, request)]

    @contextmanager
    def running(self) -> Iterator[HubServer]:
        thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._http.shutdown()
            self._http.server_close()
            thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(_Handler):
            server_hub = hub

        return Handler


class _Answer(Exception):
    def __init__(self, status: int, body: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, dict(headers or {})


def _error(status: int, message: str, code: str | None = None) -> _Answer:
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return _Answer(status, {"error": message}, headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the base class
        """Write no log."""

    def do_GET(self) -> None:
        self._serve()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  names of the base class

    def _serve(self) -> None:
        hub, path = self.server_hub, unquote(urlsplit(self.path).path)
        body = self._body()
        with hub.lock:
            asked = f"{self.command} {path}"
            hub.requests.append(asked)
            fault = self._fault(asked)
            if fault and fault.status is None and not fault.is_after:
                self.close_connection = True
                return
            answer = _fault_answer(fault) if fault and not fault.is_after else None
            if answer is None:
                try:
                    self._route(path, body)
                    answer = _error(404, f"No such address: {asked}")
                except _Answer as found:
                    answer = found
            if fault and fault.is_after:
                if fault.status is None:
                    self.close_connection = True
                    return
                answer = _fault_answer(fault)
        self._send(answer)

    def _fault(self, asked: str) -> Fault | None:
        for fault in self.server_hub.faults:
            if fault.times and fault.pattern.search(asked):
                if fault.skip:
                    fault.skip -= 1
                    return None
                fault.times -= 1
                return fault
        return None

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, answer: _Answer) -> None:
        data = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # Requests.

    def _route(self, path: str, body: bytes) -> None:
        for pattern, serve in _ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                serve(self, body, **found.groupdict())

    def _may_write(self, repo_id: str) -> None:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not token or token not in self.server_hub.writers:
            raise _error(401, "Invalid credentials in Authorization header")
        if self.server_hub.writers[token] != repo_id.partition("/")[0]:
            raise _error(403, f"Forbidden: you don't have the right to write to {repo_id}")

    def _repository(self, repo_id: str) -> Repository:
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        found = self.server_hub.repositories.get(repo_id)
        if token and token not in self.server_hub.writers:
            raise _error(401, "Invalid credentials in Authorization header")
        if found is None or (found.is_private and not token):
            # The Hub does not say whether a private repository exists.
            raise _error(404 if token else 401, "Repository not found", "RepoNotFound")
        return found

    def create(self, body: bytes) -> None:
        given = json.loads(body)
        repo_id = f"{given['organization']}/{given['name']}"
        self._may_write(repo_id)
        if repo_id in self.server_hub.repositories:
            raise _error(409, "You already created this dataset repo")
        self.server_hub.repositories[repo_id] = Repository(is_private=given.get("visibility") == "private")
        raise _Answer(200, {"url": f"{self.server_hub.url}/datasets/{repo_id}", "name": repo_id})

    def info(self, body: bytes, repo: str, rev: str | None = None) -> None:
        found = self._repository(repo)
        self._check_revision(found, rev)
        raise _Answer(
            200,
            {
                "id": repo,
                "sha": found.sha,
                "private": found.is_private,
                "tags": [],
                "siblings": [{"rfilename": name} for name in sorted(found.files)],
            },
        )

    def _check_revision(self, found: Repository, rev: str | None) -> None:
        if rev not in (None, "main", found.sha):
            raise _error(404, "Invalid rev id", "RevisionNotFound")

    def validate(self, body: bytes) -> None:
        raise _Answer(200, {"warnings": [], "errors": []})

    def preupload(self, body: bytes, repo: str, rev: str) -> None:
        self._may_write(repo)
        files = self._repository(repo).files
        answers = []
        for one in json.loads(body)["files"]:
            is_large = one["size"] >= SMALL_BYTES or one["path"].endswith(".parquet")
            known = files.get(one["path"])
            oid = None
            if known is not None:
                oid = hashlib.sha256(known).hexdigest() if is_large else _git_hash(known)
            mode = "lfs" if is_large else "regular"
            answers.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        raise _Answer(200, {"files": answers})

    def batch(self, body: bytes, repo: str) -> None:
        self._may_write(repo)
        objects = []
        for one in json.loads(body)["objects"]:
            answer: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server_hub.objects:
                answer["actions"] = {"upload": {"href": f"{self.server_hub.url}/objects/{one['oid']}"}}
            objects.append(answer)
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise _error(400, "The bytes are not those of the object")
        self.server_hub.objects[oid] = body
        raise _Answer(200, {})

    def commit(self, body: bytes, repo: str, rev: str) -> None:
        self._may_write(repo)
        found = self._repository(repo)
        header, *operations = [json.loads(line) for line in body.splitlines()]
        parent = header["value"].get("parentCommit")
        if parent is not None and parent != found.sha:
            raise _error(412, "A commit has happened since. Please refresh and try again.")
        files = dict(found.files)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                if value["oid"] not in self.server_hub.objects:
                    raise _error(422, f"The object of {value['path']} was not uploaded")
                files[value["path"]] = self.server_hub.objects[value["oid"]]
            elif files.pop(value["path"], None) is None:
                raise _error(404, "A file with this name doesn't exist", "EntryNotFound")
        found.files = files
        found.commits.append(operations)
        url = f"{self.server_hub.url}/datasets/{repo}/commit/{found.sha}"
        raise _Answer(200, {"success": True, "commitOid": found.sha, "commitUrl": url})

    def resolve(self, body: bytes, repo: str, rev: str, path: str) -> None:
        found = self._repository(repo)
        self._check_revision(found, rev)
        if path not in found.files:
            raise _error(404, "Entry not found", "EntryNotFound")
        data = found.files[path]
        headers = {
            "ETag": f'"{_git_hash(data)}"',
            "X-Repo-Commit": found.sha,
            "X-Linked-Size": str(len(data)),
            "Accept-Ranges": "bytes",
        }
        if given := self.headers.get("Range"):
            start, _, end = given.removeprefix("bytes=").partition("-")
            data_end = int(end) + 1 if end else len(data)
            headers["Content-Range"] = f"bytes {start}-{data_end - 1}/{len(data)}"
            raise _Answer(206, data[int(start) : data_end], headers)
        raise _Answer(200, data, {"Content-Type": "application/octet-stream"} | headers)

    def tree(self, body: bytes, repo: str, rev: str, path: str | None = None) -> None:
        found = self._repository(repo)
        self._check_revision(found, rev)
        prefix = f"{path}/" if path else ""
        if prefix and not any(name.startswith(prefix) for name in found.files):
            raise _error(404, "Entry not found", "EntryNotFound")
        is_recursive = "recursive=true" in urlsplit(self.path).query.lower()
        raise _Answer(200, _entries(found, prefix, is_recursive=is_recursive))

    def paths_info(self, body: bytes, repo: str, rev: str) -> None:
        found = self._repository(repo)
        self._check_revision(found, rev)
        paths = json.loads(body)["paths"]
        entries = [one for one in _entries(found, "", is_recursive=True) if one["path"] in paths]
        raise _Answer(200, entries)


def _entries(found: Repository, prefix: str, *, is_recursive: bool) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {}
    for name, data in sorted(found.files.items()):
        if not name.startswith(prefix):
            continue
        parts = name.removeprefix(prefix).split("/")
        for depth in range(1, len(parts) if is_recursive else min(2, len(parts))):
            folder = prefix + "/".join(parts[:depth])
            entries[folder] = {"type": "directory", "oid": _git_hash(folder.encode()), "size": 0, "path": folder}
        if is_recursive or len(parts) == 1:
            entries[name] = {"type": "file", "oid": _git_hash(data), "size": len(data), "path": name}
    return list(entries.values())


def _fault_answer(fault: Fault) -> _Answer:
    assert fault.status is not None
    return _Answer(fault.status, {"error": "by the test"}, {"X-Error-Message": "by the test"} | dict(fault.headers))


def _git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_ROUTES: list[tuple[str, Callable[..., None]]] = [
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"GET /api/datasets/{_REPO}(/revision/(?P<rev>[^/]+))?", _Handler.info),
    (rf"POST /api/datasets/{_REPO}/preupload/(?P<rev>[^/]+)", _Handler.preupload),
    (rf"POST /api/datasets/{_REPO}/commit/(?P<rev>[^/]+)", _Handler.commit),
    (rf"POST /api/datasets/{_REPO}/paths-info/(?P<rev>[^/]+)", _Handler.paths_info),
    (rf"GET /api/datasets/{_REPO}/tree/(?P<rev>[^/]+)(/(?P<path>.+))?", _Handler.tree),
    (rf"POST /datasets/{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /objects/(?P<oid>\w+)", _Handler.put),
    (rf"(GET|HEAD) /datasets/{_REPO}/resolve/(?P<rev>[^/]+)/(?P<path>.+)", _Handler.resolve),
]
