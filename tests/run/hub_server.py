"""A small local server with the hub's interface: models, their files, and uploads."""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from urllib.parse import unquote, urlsplit


class Hub:
    """Repositories in memory.

    Attributes:
      files: `{repository: {revision: {path: bytes}}}`; the first revision is main.
      gated: names of repositories that no one may read.
      served: paths of the files that were downloaded.
      sent: what was uploaded, `{repository: {path: bytes}}`.
      altered: paths whose bytes are served with one bit changed.
    """

    def __init__(self, files):
        self.files, self.gated, self.altered = files, set(), set()
        self.served, self.sent, self.url = [], {}, ""

    def commit(self, repo, revision):
        return hashlib.sha1(f"{repo}{revision}".encode()).hexdigest()

    def find(self, repo, revision):
        """Return (commit, files), or the hub's code of an error."""
        if repo in self.gated:
            return "GatedRepo"
        for name, files in self.files.get(repo, {}).items():
            if revision in (name, self.commit(repo, name)):
                return self.commit(repo, name), files
        return "RevisionNotFound" if repo in self.files else "RepoNotFound"


@contextlib.contextmanager
def serving(files):
    """Serve repositories on a free port of this machine."""
    hub = Hub(files)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_): ...

        def answer(self, content, status=200, **headers):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": len(body), **headers}.items():
                self.send_header(name.replace("_", "-"), str(value))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def refuse(self, code):
            status = {"GatedRepo": 403, "RepoNotFound": 401}.get(code, 404)
            self.answer({"error": code}, status, X_Error_Code=code, X_Error_Message=code)

        def do_GET(self):
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                repo, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
                found = hub.find(repo, revision)
                if isinstance(found, str):
                    return self.refuse(found)
                siblings = [{"rfilename": path} for path in found[1]]
                return self.answer({"id": repo, "sha": found[0], "siblings": siblings})
            if len(parts) < 5:  # such as a test of whether the server is there
                return self.answer({})
            repo, revision, path = "/".join(parts[:2]), parts[3], "/".join(parts[4:])
            found = hub.find(repo, revision)
            if isinstance(found, str):
                return self.refuse(found)
            commit, files = found
            if path not in files:
                return self.refuse("EntryNotFound")
            content = files[path]
            digest = hashlib.sha256(content).hexdigest()
            if self.command == "GET":
                hub.served.append(path)
                if path in hub.altered:
                    content = content[:-1] + bytes([content[-1] ^ 1])
            headers = {"X_Repo_Commit": commit, "X_Linked_Size": len(content)}
            return self.answer(content, ETag=f'"{digest}"', X_Linked_Etag=f'"{digest}"', **headers)

        do_HEAD = do_GET

        def do_POST(self):
            parts = urlsplit(self.path).path.strip("/").split("/")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if "Bearer" not in self.headers.get("Authorization", ""):
                return self.answer({"error": "Invalid credentials"}, 401)
            if parts[:3] == ["api", "repos", "create"]:
                asked = json.loads(body)
                name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
                hub.files.setdefault(name, {"main": {}})
                return self.answer({"url": f"{hub.url}/{name}", "name": name})
            repo = "/".join(parts[2:4])
            if parts[4:5] == ["preupload"]:
                listed = json.loads(body)["files"]
                ask = [
                    {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for f in listed
                ]
                return self.answer({"files": ask})
            if parts[4:5] == ["commit"]:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        content = base64.b64decode(line["value"]["content"])
                        hub.sent.setdefault(repo, {})[line["value"]["path"]] = content
                url = f"{hub.url}/{repo}/commit/{'0' * 40}"
                return self.answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})
            return self.answer({})  # such as the check of a card's header

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield hub
        server.shutdown()
