"""A hub of datasets on this machine, in a thread, with faults on demand.

It speaks as much of the real one's protocol as is needed to list and fetch: repositories with
commits, branches and pages of listings; large files by a redirect to a store that knows them by
their sha256; ranges.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".parquet", ".gz", ".zst")


@dataclass
class Faults:
    """What goes wrong; a list is used up, one entry by each request for content."""

    statuses: list[int] = field(default_factory=list)
    """HTTP statuses to answer with; 200 is no fault."""
    cut_after: list[int] = field(default_factory=list)
    """Bytes after which the connection is dropped."""
    stall_after: int | None = None
    """Bytes after which nothing more comes until the hub is closed."""
    instead: dict[str, bytes] = field(default_factory=dict)
    """Other content than was listed, by path."""
    retry_after: str | None = None
    """How long an answer with an error asks to wait."""
    without_ranges: bool = False
    """Always send the whole."""


class FakeHub:
    """The state that tests set and read; `endpoint` is its address."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}  # repository, commit, path
        self.branches: dict[str, dict[str, str]] = {}
        self.gated: set[str] = set()
        self.faults = Faults()
        self.page_size = 1000
        self.requests: list[str] = []
        """Method, path and range of each request."""
        self.blobs: dict[str, tuple[str, bytes]] = {}
        self.closing = threading.Event()

    def commit(self, repository: str, files: dict[str, bytes], branch: str = "main") -> str:
        """Put the whole content of a repository in a new commit; returns its id."""
        commits = self.commits.setdefault(repository, {})
        commit = hashlib.sha1(f"{repository} {len(commits)}".encode()).hexdigest()
        commits[commit] = dict(files)
        self.branches.setdefault(repository, {})[branch] = commit
        for path, content in files.items():
            self.blobs[hashlib.sha256(content).hexdigest()] = (path, content)
        return commit

    def resolve(self, repository: str, revision: str) -> str | None:
        """The commit that a branch or commit id names."""
        commit = self.branches[repository].get(revision, revision)
        return commit if commit in self.commits[repository] else None

    def fetched(self) -> list[str]:
        """The requests for the content of files, without redirects."""
        return [line for line in self.requests if " /store/" in line or " /plain/" in line]


@contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """Run a hub while the block lasts."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def closed_endpoint() -> str:
    """An address at which nobody answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    port = server.server_address[1]
    server.server_close()
    return f"http://127.0.0.1:{port}"


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        wanted = f" {self.headers['Range']}" if self.headers["Range"] else ""
        self.hub.requests.append(f"{self.command} {url.path}{wanted}")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match parts:
            case ["api", "datasets", owner, name, *rest]:
                self.answer_about(f"{owner}/{name}", rest, query)
            case ["datasets", owner, name, "resolve", revision, *path]:
                self.answer_with_file(f"{owner}/{name}", revision, "/".join(path))
            case ["store", sha256]:
                self.send_content(*self.hub.blobs[sha256])
            case ["portal", *_]:  # as of a network that wants a login first
                self.send_bytes(b"<html>Welcome!</html>")
            case _:
                self.send_json({}, 404)

    def knows(self, repository: str) -> bool:
        if repository in self.hub.commits:
            return True
        # As the real one does for those who are not logged in.
        self.send_json({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
        return False

    def commit_or_refuse(self, repository: str, revision: str) -> str | None:
        commit = self.hub.resolve(repository, revision)
        if commit is None:
            self.send_json({}, 404, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def answer_about(self, repository: str, rest: list[str], query: dict[str, str]) -> None:
        if not self.knows(repository):
            return
        commit = self.commit_or_refuse(repository, rest[1] if len(rest) > 1 else "main")
        if commit is None:
            return
        if rest[:1] != ["tree"]:
            self.send_json({"id": repository, "sha": commit})
            return
        entries = [
            _listed(path, content) for path, content in self.hub.commits[repository][commit].items()
        ]
        begin = int(query.get("cursor", 0))
        end = begin + self.hub.page_size
        headers = {}
        if end < len(entries):
            path = urlsplit(self.path).path
            headers["Link"] = f'<{self.hub.endpoint}{path}?cursor={end}>; rel="next"'
        self.send_json(entries[begin:end], 200, headers)

    def answer_with_file(self, repository: str, revision: str, path: str) -> None:
        if not self.knows(repository):
            return
        if repository in self.hub.gated:
            self.send_json({}, 401, {"X-Error-Code": "GatedRepo"})
            return
        commit = self.commit_or_refuse(repository, revision)
        if commit is None:
            return
        content = self.hub.commits[repository][commit].get(path)
        if content is None:
            self.send_json({}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        if not path.endswith(LARGE):
            self.hub.requests[-1] = self.hub.requests[-1].replace(" /datasets/", " /plain/")
            self.send_content(path, content, commit)
            return
        sha256 = hashlib.sha256(content).hexdigest()
        headers = {
            "Location": f"{self.hub.endpoint}/store/{sha256}",
            "X-Repo-Commit": commit,
            "X-Linked-ETag": f'"{sha256}"',
            "X-Linked-Size": str(len(content)),
        }
        self.send_json({}, 302, headers)

    def send_content(self, path: str, content: bytes, commit: str = "") -> None:
        faults = self.hub.faults
        content = faults.instead.get(path, content)
        status = faults.statuses.pop(0) if faults.statuses else 200
        if status != 200:
            asked = faults.retry_after
            self.send_json({}, status, {} if asked is None else {"Retry-After": asked})
            return
        begin = 0
        if self.headers["Range"] and not faults.without_ranges:
            begin = int(self.headers["Range"].removeprefix("bytes=").partition("-")[0])
            if begin >= len(content):
                self.send_json({}, 416, {"Content-Range": f"bytes */{len(content)}"})
                return
        body = content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            whole = len(content)
            self.send_header("Content-Range", f"bytes {begin}-{whole - 1}/{whole}")
        if commit:
            self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if faults.stall_after is not None:
            self.wfile.write(body[: faults.stall_after])
            self.wfile.flush()
            self.hub.closing.wait()
            self.close_connection = True
        elif faults.cut_after:
            self.wfile.write(body[: faults.cut_after.pop(0)])
            self.wfile.flush()
            self.close_connection = True
        else:
            self.wfile.write(body)

    def send_json(
        self, value: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_bytes(json.dumps(value).encode(), status, headers)

    def send_bytes(
        self, body: bytes, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _listed(path: str, content: bytes) -> dict[str, Any]:
    git_sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": git_sha1}
    if path.endswith(LARGE):
        sha256 = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": sha256, "size": len(content), "pointerSize": 130}
        # Large files have this too; that it is there must not matter.
        entry["xetHash"] = sha256[::-1]
    return entry
