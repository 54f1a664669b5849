"""As much of the Hugging Face hub, on loopback, as huggingface_hub needs to bring and to send a model."""

import base64
import hashlib
import http.server
import json
import re
import threading
import urllib.parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NEXT_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"
TOKEN = "hf_oneThatMayWrite"
LARGE = (".safetensors",)  # what goes by LFS, and not inside the commit


class Hub:
    """A server with repositories in memory: `repositories[owner/name][path]` are bytes.

    `gated` are names that are answered with 403; `asked` has (method, path) of every request.
    """

    def __init__(self, repositories=None):
        self.repositories = repositories or {}
        self.gated = set()
        self.asked = []
        self.large = {}  # bytes by their SHA-256
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def fetched(self, repository):
        """Paths of the files that were downloaded."""
        start = f"/{repository}/resolve/"
        paths = [path for method, path in self.asked if method == "GET" and path.startswith(start)]
        return sorted({path.removeprefix(start).split("/", 1)[1] for path in paths})


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub = None

    def log_message(self, *_):
        pass

    def _answer(self, status, body=b"", **headers):
        if isinstance(body, (dict, list)):
            body, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status, code):
        self._answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _route(self, routes):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.asked.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, respond in routes:
            match = re.fullmatch(pattern, path)
            if match:
                return respond(self, *match.groups(), *([body] if self.command in ("POST", "PUT") else []))
        return self._refuse(404, "NoSuchRoute")

    def _files(self, repository):
        """Of a repository that may be read, else None once that was said."""
        if repository in self.hub.gated:
            self._refuse(403, "GatedRepo")
        elif repository not in self.hub.repositories:
            self._refuse(401, "RepoNotFound")  # as the hub answers those who are not logged in
        else:
            return self.hub.repositories[repository]
        return None

    def _may_write(self):
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._refuse(401, "Unauthorized")
        return False

    def _info(self, repository, *_):
        files = self._files(repository)
        if files is not None:
            self._answer(200, {"_id": "1", "id": repository, "modelId": repository, "sha": COMMIT, "private": False,
                               "tags": [], "siblings": [{"rfilename": path} for path in files]})  # fmt: skip

    def _tree(self, repository, *_):
        files = self._files(repository)
        if files is not None:
            self._answer(200, [{"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                               for path, data in files.items()])  # fmt: skip

    def _resolve(self, repository, _, path):
        files = self._files(repository)
        if files is None:
            return
        if path not in files:
            self._refuse(404, "EntryNotFound")
            return
        data = files[path]
        self._answer(200, data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=COMMIT)

    def _create(self, body):
        if not self._may_write():
            return
        wanted = json.loads(body)
        name = f"{wanted['organization']}/{wanted['name']}"
        if name in self.hub.repositories:
            self._answer(409, {"error": "You already created this model repo", "url": f"{self.hub.address}/{name}"})
            return
        self.hub.repositories[name] = {}
        self._answer(200, {"url": f"{self.hub.address}/{name}", "name": name, "id": "2"})

    def _preupload(self, repository, _, body):
        if self._may_write():
            self._answer(200, {"files": [
                {"path": file["path"], "shouldIgnore": False,
                 "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular"}
                for file in json.loads(body)["files"]]})  # fmt: skip

    def _batch(self, repository, body):
        if self._may_write():
            self._answer(200, {"transfer": "basic", "objects": [
                {"oid": each["oid"], "size": each["size"],
                 "actions": {"upload": {"href": f"{self.hub.address}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]]})  # fmt: skip

    def _put(self, oid, body):
        if hashlib.sha256(body).hexdigest() != oid:
            self._refuse(400, "OtherBytes")
            return
        self.hub.large[oid] = body
        self._answer(200)

    def _commit(self, repository, _, body):
        if not self._may_write():
            return
        files, message = self.hub.repositories[repository], ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
        self.hub.message = message
        self._answer(200, {"success": True, "commitOid": NEXT_COMMIT, "hookOutput": "",
                           "commitUrl": f"{self.hub.address}/{repository}/commit/{NEXT_COMMIT}"})  # fmt: skip

    def do_HEAD(self):
        self._route([(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler._resolve)])

    def do_GET(self):
        self._route([
            (r"/api/models/([^/]+/[^/]+)", _Handler._info),
            (r"/api/models/([^/]+/[^/]+)/revision/([^/]+)", _Handler._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", _Handler._tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler._resolve),
        ])  # fmt: skip

    def do_POST(self):
        self._route([
            (r"/api/repos/create", _Handler._create),
            (r"/api/validate-yaml", lambda self, _: self._answer(200, {"errors": [], "warnings": []})),
            (r"/api/models/([^/]+/[^/]+)/preupload/([^/]+)", _Handler._preupload),
            (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._batch),
            (r"/api/models/([^/]+/[^/]+)/commit/([^/]+)", _Handler._commit),
        ])  # fmt: skip

    def do_PUT(self):
        self._route([(r"/lfs/([0-9a-f]{64})", _Handler._put)])
