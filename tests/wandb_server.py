"""A Weights & Biases server for tests: what the real client 0.31 says to one, answered from memory.

    with serving() as server:       # on a free port of this machine; the client finds it
        ...
        server.runs["run-id"].rows  # what arrived

It speaks the part of W&B's GraphQL that logging, artifacts, alerts, sweeps and `wandb.Api()` use,
the file stream and uploads. It can `fail` in these ways, until `mend`:

    "stop"    refuses connections       "hang"   takes requests and never answers
    "error"   answers 500               "slow"   answers each request after a while
    "refuse"  answers 401, as to a wrong key

It shows what the client sends and that it gets through, not what the real server makes of it.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast
from urllib.parse import quote, unquote

import pytest
import yaml

Fault = Literal["", "stop", "error", "hang", "refuse", "slow"]

ENTITY, KEY = "tester", "local-" + "0" * 40
CREATED = "2026-01-01T00:00:00Z"
SLOW_SECONDS = 0.5
MANIFEST = "wandb_manifest.json"
HISTORY, EVENTS, SUMMARY = "wandb-history.jsonl", "wandb-events.jsonl", "wandb-summary.json"


@dataclass
class StoredRun:
    """A run: what `UpsertBucket` said of it, the lines that were streamed, the uploaded files."""

    project: str
    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    state: str = "running"
    streams: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    alerts: list[dict[str, Any]] = field(default_factory=list)

    def lines(self, stream: str) -> list[str]:
        """The lines of a stream so far."""
        return self.streams.setdefault(stream, [])

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The history, in the order in which it is stored."""
        return [json.loads(line) for line in self.lines(HISTORY)]

    @property
    def config(self) -> dict[str, Any]:
        """The configuration without W&B's own part."""
        stored = json.loads(self.fields.get("config") or "{}")
        return {key: item["value"] for key, item in stored.items() if key != "_wandb"}

    @property
    def summary(self) -> dict[str, Any]:
        """The newest summary."""
        return json.loads((self.lines(SUMMARY) or ["{}"])[-1])

    def describe(self) -> dict[str, Any]:
        """Every field of a run that a query may ask for."""
        keys = {key: {"typeCounts": [{"type": "number"}]} for row in self.rows for key in row}
        last = max((row["_step"] for row in self.rows), default=-1)
        return {
            "id": self.name,
            "name": self.name,
            "projectId": 1,
            "project": describe(self.project),
            "displayName": self.fields.get("displayName") or self.name,
            "sweepName": self.fields.get("sweep"),
            "state": self.state,
            "config": self.fields.get("config") or "{}",
            "wandbConfig": '{"t": 1}',
            "group": self.fields.get("groupName"),
            "jobType": self.fields.get("jobType"),
            "commit": self.fields.get("commit"),
            "tags": self.fields.get("tags") or [],
            "notes": self.fields.get("notes"),
            "description": None,
            "readOnly": False,
            "createdAt": CREATED,
            "heartbeatAt": CREATED,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(self.summary),
            "historyLineCount": len(self.lines(HISTORY)),
            "eventsLineCount": len(self.lines(EVENTS)),
            "logLineCount": len(self.lines("output.log")),
            "historyTail": json.dumps(self.lines(HISTORY)[-1:]),
            "eventsTail": json.dumps(self.lines(EVENTS)[-1:]),
            "historyKeys": {"lastStep": last, "sets": [], "keys": keys},
            "user": {"name": ENTITY, "username": ENTITY},
        }


@dataclass
class StoredArtifact:
    """A version of an artifact: `input` is what it was created with, `files` by their paths."""

    id: str
    input: dict[str, Any]
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False

    @property
    def aliases(self) -> list[str]:
        """The names that point to it."""
        return [alias["alias"] for alias in self.input.get("aliases") or []]

    def describe(self, sequence: dict[str, Any]) -> dict[str, Any]:
        """Every field that a query for it may ask for."""
        aliases = [
            {"__typename": "ArtifactAlias", "id": alias, "alias": alias} for alias in self.aliases
        ]
        artifact = {
            "__typename": "Artifact",
            "id": self.id,
            "artifactSequence": sequence,
            "versionIndex": int(self.id),
            "artifactType": {"name": "model"},
            "description": None,
            "metadata": "{}",
            "ttlDurationSeconds": -2,
            "ttlIsInherited": False,
            "tags": [],
            "historyStep": None,
            "state": "COMMITTED",
            "size": sum(map(len, self.files.values())),
            "digest": "digest",
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": "commit",
            "fileCount": len(self.files),
            "createdAt": CREATED,
            "updatedAt": CREATED,
        }
        return {
            "__typename": "ArtifactCollectionMembership",
            "id": self.id,
            "versionIndex": int(self.id),
            "createdAt": CREATED,
            "aliases": aliases,
            "artifactCollection": sequence,
            "artifact": artifact,
        }


def describe(name: str) -> dict[str, Any]:
    """A project as queries show it."""
    return {"id": name, "name": name, "entity": {"id": ENTITY, "name": ENTITY}}


class Server:
    """The server and all that it stores; a context manager.

    Attributes:
        fault: how it misbehaves now.
        failed: how many requests it has failed.
        runs: by their ids.
        artifacts: in the order in which they were created.
        sweeps: the configurations of sweeps, by id.
        grid: what the newest sweep still has to try.
        requests: the operations and paths so far.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._port = 0
        self._http: Listener | None = None
        self.clear()

    def clear(self) -> None:
        """Forgets everything and behaves."""
        self.fault: Fault = ""
        self.failed = 0
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: list[StoredArtifact] = []
        self.sweeps: dict[str, dict[str, Any]] = {}
        self.grid: list[dict[str, Any]] = []
        self.requests: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._http is not None:
            self.stop()

    @property
    def url(self) -> str:
        """Where it listens, or did before it stopped."""
        return f"http://127.0.0.1:{self._port}"

    def fail(self, fault: Fault) -> None:
        """Misbehaves from now on."""
        self.fault = fault
        if fault == "stop":
            self.stop()

    def mend(self) -> None:
        """Behaves again; who hangs gets an error."""
        self.fault = ""
        self._released.set()
        if self._http is None:
            self.start()

    def start(self) -> None:
        """Listens, on the port of before if there was one."""
        self._http = Listener(("127.0.0.1", self._port), partial(Handler, self))
        self._port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        """Refuses connections; what it has stored stays."""
        assert self._http is not None
        self._http.shutdown()
        self._http.server_close()
        self._http = None

    def misbehave(self) -> int:
        """Waits or gives the status of an error, as `fault` says; 0: none."""
        self.failed += self.fault in ("error", "hang", "refuse")
        if self.fault == "hang":
            self._released.clear()
            self._released.wait()
            return 500
        if self.fault == "slow":
            time.sleep(SLOW_SECONDS)
        return {"error": 500, "refuse": 401}.get(self.fault, 0)

    def answer(self, path: str, body: bytes) -> Any:
        """Stores what a request brings and returns the JSON for it."""
        with self._lock:
            if path == "/graphql":
                request = json.loads(body)
                found = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])
                operation = found[1] if found else ""
                self.requests.append(operation)
                reply = cast(Callable[..., Any] | None, getattr(self, f"on_{operation}", None))
                if reply is None:
                    return {"errors": [{"message": f"{operation}: not in the test server"}]}
                return {"data": reply(**(request.get("variables") or {}))}
            self.requests.append(path)
            if path.endswith("/file_stream"):
                return self._stream(path.split("/")[-2], json.loads(body))
            if path.startswith("/storage/"):
                owner, file = self._place(path)
                owner.files[file] = body
            return {}

    def stored(self, path: str) -> bytes:
        """What was uploaded to a path."""
        with self._lock:
            owner, file = self._place(path)
            return owner.files[file]

    def _place(self, path: str) -> tuple[StoredRun | StoredArtifact, str]:
        _, _, kind, name, file = path.split("/", 4)
        return self.runs[name] if kind == "run" else self.artifacts[int(name)], unquote(file)

    def _stream(self, name: str, content: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[name]
        for stream, chunk in content.get("files", {}).items():
            lines, start = run.lines(stream), chunk["offset"]
            lines[start : start + len(chunk["content"])] = chunk["content"]
        if content.get("complete"):
            run.state = "failed" if content.get("exitcode") else "finished"
        return {"limits": {}}

    # --- who and what

    def on_Viewer(self) -> Any:
        teams = {"edges": [{"node": {"name": ENTITY}}]}
        return {
            "viewer": {
                "id": ENTITY,
                "entity": ENTITY,
                "username": ENTITY,
                "email": f"{ENTITY}@localhost",
                "flags": "{}",
                "teams": teams,
            }
        }

    on_GetDefaultEntity = on_GetViewer = on_Viewer

    def on_ServerFeaturesQuery(self) -> Any:
        return {"serverInfo": {"features": []}}

    # --- a run that logs

    def on_RunResumeStatus(self, project: str, name: str, **_: Any) -> Any:
        run = self.runs.get(name)
        return {"model": describe(project) | {"bucket": run.describe() if run else None}}

    def on_UpsertBucket(self, name: str, project: str | None, **fields: Any) -> Any:
        inserted = name not in self.runs
        run = self.runs.setdefault(name, StoredRun(project or "uncategorized", name))
        run.fields |= {key: value for key, value in fields.items() if value is not None}
        if fields.get("summaryMetrics"):
            run.lines(SUMMARY)[:] = [fields["summaryMetrics"]]
        if fields.get("host"):  # a client that starts says where
            run.state = "running"
        return {"upsertBucket": {"bucket": run.describe(), "inserted": inserted}}

    def on_CreateRunFiles(self, run: str, files: list[str], **_: Any) -> Any:
        urls = [{"name": f, "uploadUrl": f"{self.url}/storage/run/{run}/{f}"} for f in files]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": urls}}

    def on_NotifyScriptableRunAlert(self, runName: str, **alert: Any) -> Any:
        self.runs[runName].alerts.append(alert)
        return {"notifyScriptableRunAlert": {"success": True}}

    # --- artifacts

    def on_CreateArtifact(self, input: dict[str, Any]) -> Any:
        for older in self.artifacts:  # an alias belongs to one version
            if older.input["artifactCollectionName"] == input["artifactCollectionName"]:
                names = {alias["alias"] for alias in input.get("aliases") or []}
                kept = [a for a in older.input.get("aliases") or [] if a["alias"] not in names]
                older.input["aliases"] = kept
        self.artifacts.append(StoredArtifact(str(len(self.artifacts)), input))
        sequence = {"latestArtifact": None, "id": "sequence", "name": "sequence"}
        artifact = {"id": self.artifacts[-1].id, "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def on_CreateArtifactManifest(self, artifactID: str, name: str, **_: Any) -> Any:
        file = self._file(artifactID, name)
        return {"createArtifactManifest": {"artifactManifest": {"id": artifactID, "file": file}}}

    def on_UpdateArtifactManifest(self, artifactManifestID: str, **_: Any) -> Any:
        file = self._file(artifactManifestID, MANIFEST)
        manifest = {"id": artifactManifestID, "file": file}
        return {"updateArtifactManifest": {"artifactManifest": manifest}}

    def on_CreateArtifactFiles(self, input: dict[str, Any]) -> Any:
        files = [self._file(file["artifactID"], file["name"]) for file in input["artifactFiles"]]
        return {"createArtifactFiles": {"files": {"edges": [{"node": file} for file in files]}}}

    def on_CommitArtifact(self, artifactID: str) -> Any:
        artifact = self.artifacts[int(artifactID)]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": artifactID, "digest": "digest"}}}

    def _file(self, artifact: str, name: str) -> dict[str, Any]:
        place = f"{self.url}/storage/artifact/{artifact}/{quote(name)}"
        return {
            "__typename": "File",
            "id": name,
            "name": name,
            "displayName": name,
            "storagePath": None,
            "directUrl": place,
            "uploadUrl": place,
            "uploadHeaders": [],
            "uploadMultipartUrls": None,
            "artifact": {"id": artifact},
        }

    def on_ArtifactMembershipByName(self, project: str, name: str, **_: Any) -> Any:
        """The version of an artifact that `COLLECTION:ALIAS` names."""
        collection, alias = name.split(":")
        found = next((a for a in self._versions(collection) if alias in a.aliases), None)
        sequence: dict[str, Any] = {
            "__typename": "ArtifactSequence",
            "name": collection,
            "project": describe(project) | {"internalId": "1"},
        }
        return {"project": {"artifactCollectionMembership": found and found.describe(sequence)}}

    def on_FetchArtifactManifest(self, id: str, **_: Any) -> Any:
        file = self._file(id, MANIFEST)
        return {"artifact": {"currentManifest": {"file": file}}}

    def on_GetArtifactMembershipFileUrls(self, collection: str, alias: str, **_: Any) -> Any:
        """The files of a version, which the client calls `vNUMBER`."""
        number = int(alias.removeprefix("v"))
        artifact = next(a for a in self._versions(collection) if int(a.id) == number)
        names = [name for name in artifact.files if name != MANIFEST]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        edges = [{"node": self._file(artifact.id, name)} for name in names]
        membership = {"files": {"edges": edges, "pageInfo": page}}
        found = {"__typename": "ArtifactSequence", "artifactMembership": membership}
        return {"project": {"artifactCollection": found}}

    def _versions(self, collection: str) -> list[StoredArtifact]:
        return [a for a in self.artifacts if a.input["artifactCollectionName"] == collection]

    # --- wandb.Api()

    def on_Runs(
        self,
        project: str,
        perPage: int,
        cursor: str | None = None,
        filters: str | None = None,
        **_: Any,
    ) -> Any:
        """The project's runs, page by page, oldest first; of filters `group` is understood."""
        runs = [run for run in self.runs.values() if run.project == project]
        if group := json.loads(filters or "{}").get("group"):
            runs = [run for run in runs if run.fields.get("groupName") == group]
        start = int(cursor or 0)
        page = runs[start : start + perPage]
        edges = [
            {"node": run.describe(), "cursor": str(start + n + 1)} for n, run in enumerate(page)
        ]
        more = {"endCursor": str(start + len(page)), "hasNextPage": start + len(page) < len(runs)}
        found = {"edges": edges, "pageInfo": more}
        if not runs:
            return {"project": None}
        return {"project": describe(project) | {"runCount": len(runs), "runs": found}}

    def on_Run(self, name: str, **_: Any) -> Any:
        run = self.runs.get(name)
        return {"project": {"run": run and run.describe()}}

    on_RunHistoryKeys = on_RunState = on_Run

    def on_RunFullHistory(self, name: str, **_: Any) -> Any:
        run = self.runs[name]
        return {"project": {"run": {"history": run.lines(HISTORY), "events": run.lines(EVENTS)}}}

    def on_RunSampledHistory(self, name: str, specs: list[str], **_: Any) -> Any:
        return {"project": {"run": {"sampledHistory": [self._sample(name, s) for s in specs]}}}

    def on_SampledHistoryPage(self, run: str, spec: str, **_: Any) -> Any:
        return self.on_RunSampledHistory(run, [spec])

    def _sample(self, name: str, spec: str) -> list[dict[str, Any]]:
        """The rows that have all the keys, and of them these keys."""
        asked = json.loads(spec)
        keys, first = asked["keys"], asked.get("minStep") or 0
        rows = [row for row in self.runs[name].rows if all(key in row for key in keys)]
        steps = range(first, asked.get("maxStep", 1 << 62) + 1)
        return [{key: row[key] for key in keys} for row in rows if row["_step"] in steps]

    def on_RunParquetHistory(self, runName: str, **_: Any) -> Any:
        live = [json.loads(line) for line in self.runs[runName].lines(HISTORY)]
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}

    def on_HistoryPage(self, run: str, minStep: int, maxStep: int, **_: Any) -> Any:
        lines = self.runs[run].lines(HISTORY)
        page = [line for line in lines if minStep <= json.loads(line)["_step"] < maxStep]
        return {"project": {"run": {"history": page}}}

    # --- sweeps

    def on_UpsertSweep(self, config: str, projectName: str, **_: Any) -> Any:
        """Stores a sweep and the grid of its parameters, which its agents work off."""
        name = f"sweep{len(self.sweeps)}"
        read = yaml.safe_load(config)
        self.sweeps[name] = read
        options = [item.get("values", [item.get("value")]) for item in read["parameters"].values()]
        self.grid = [
            {key: {"value": value} for key, value in zip(read["parameters"], point, strict=True)}
            for point in itertools.product(*options)
        ]
        sweep = {"name": name, "id": name, "project": describe(projectName)}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def on_SweepWithRuns(self, sweep: str, **_: Any) -> Any:
        config = yaml.safe_dump(self.sweeps[sweep])
        found = {"id": sweep, "name": sweep, "method": "grid", "state": "RUNNING", "config": config}
        return {"project": {"sweep": found | {"runs": {"edges": []}}}}

    def on_CreateAgent(self, sweep: str, **_: Any) -> Any:
        return {"createAgent": {"agent": {"id": sweep}}}

    def on_Heartbeat(self, id: str, runState: str, **_: Any) -> Any:
        commands: list[dict[str, Any]] = []
        if not json.loads(runState):  # one run at a time
            commands.append({"type": "exit"})
            if self.grid:
                names = {
                    "program": self.sweeps[id].get("program"),
                    "run_id": f"{id}-{len(self.grid)}",
                }
                commands = [{"type": "run", "args": self.grid.pop(0), **names}]
        return {"agentHeartbeat": {"agent": {"id": id}, "commands": json.dumps(commands)}}


@contextmanager
def serving() -> Iterator[Server]:
    """A server and a key for it in the environment.

    W&B in this process begins anew before and after, for it remembers the address that it has seen.
    """
    with Server() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_BASE_URL", server.url)
        patch.setenv("WANDB_API_KEY", KEY)
        patch.setenv("WANDB_SILENT", "true")
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        patch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "1")
        forget_wandb()
        yield server
        forget_wandb()


def forget_wandb() -> None:
    """Ends W&B's process and what it remembers, if it was used at all."""
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def command_line(*words: str) -> None:
    """Runs W&B's own command line, with `neuraxis` on the path and a wandb-core of its own."""
    folder = str(Path(sys.executable).parent)
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    environment.pop("WANDB_SERVICE", None)
    subprocess.run([sys.executable, "-m", "wandb", *words], check=True, env=environment)


class Listener(ThreadingHTTPServer):
    """Listens; clients that hang up are nothing to report."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Passes requests to its server; HTTP/1.0, so that no connection outlives a stop."""

    def __init__(self, state: Server, *arguments: Any) -> None:
        self.state = state
        super().__init__(*arguments)

    def log_message(self, format: str, *args: Any) -> None:
        """Is silent."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        status = self.state.misbehave()
        if self.command == "GET" and self.path.startswith("/storage/") and not status:
            self.reply(200, self.state.stored(self.path), "application/octet-stream")
            return
        content = {"error": "as it was told to"} if status else self.state.answer(self.path, body)
        self.reply(status or 200, json.dumps(content).encode(), "application/json")

    def reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_GET = do_POST
