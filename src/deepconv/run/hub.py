"""Weights on the Hugging Face hub: `hf:owner/name[@revision][/file]` wherever a path is accepted.

path = located("hf:timm/vgg16.tv_in1k")  # downloaded, cached and checked by its hash
name_of(path)  # "vgg16.tv_in1k"
upload(Path("folder"), "me/flowers", message="VGG-A, 12 classes")
"""

import contextlib
import hashlib
import importlib
import logging
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import NamedTuple, NoReturn

from deepconv.exceptions import UserError, first_line

_LOG = logging.getLogger(__name__)

PREFIX = "hf:"
_ADDRESS = re.compile(
    r"hf:(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/\s]+))?(?:/(?P<file>[^\s]+))?", re.ASCII
)
# Endings of the files that can be read, the preferred first: repositories often have both.
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".caffemodel", ".h5", ".mat")
_MAIN = "main"


class Address(NamedTuple):
    """A file on the hub.

    Attributes:
      repo: owner and name of the repository.
      revision: a branch, tag or commit.
      file: the file's path in it; None: its only weights file.
    """

    repo: str
    revision: str
    file: str | None

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse `hf:owner/name[@revision][/file]`.

        Raises:
          UserError: if it has another form.
        """
        found = _ADDRESS.fullmatch(text)
        if not found or ".." in PurePosixPath(found["file"] or "").parts:
            raise UserError(f"{text} is not of the form hf:OWNER/NAME[@REVISION][/FILE]")
        return cls(found["repo"], found["revision"] or _MAIN, found["file"])

    def __str__(self) -> str:
        revision = "" if self.revision == _MAIN else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}{f'/{self.file}' if self.file else ''}"


def located(name: str) -> Path:
    """Return the path of weights that a user names; a file on the hub is downloaded first.

    What is in the cache is used without a network, or if `HF_HUB_OFFLINE` is set.

    Args:
      name: a path, or `hf:owner/name[@revision][/file]`.

    Raises:
      UserError: if there is no such file on the hub, it cannot be downloaded and is not in the
        cache, or its bytes do not have the hash that the hub gave.
    """
    if not name.startswith(PREFIX):
        return Path(name)
    address = Address.parse(name)
    hub = _library(str(address))
    try:
        path = _downloaded(hub, address)
    except UserError:
        raise
    except Exception as error:  # of huggingface_hub, and of its HTTP library, which has changed
        path = _cached(hub, address, error)
    _check(path, address)
    return path


def name_of(path: Path) -> str | None:
    """Return the repository's name if a path is in the hub's cache, otherwise None."""
    for folder in path.parents:
        if folder.name.startswith("models--") and (folder / "snapshots") in path.parents:
            return folder.name.split("--", 2)[-1]
    return None


def upload(folder: Path, repo: str, *, message: str) -> str:
    """Upload a folder to a repository, which is created if there is none; return its address.

    Raises:
      UserError: if the library is missing, or the hub refuses.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
        raise UserError(f"--to={repo} is not of the form OWNER/NAME")
    hub = _library(repo)
    try:
        api = hub.HfApi()
        address = api.create_repo(repo, exist_ok=True)
        api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
    except Exception as error:
        _refuse(f"cannot upload to {repo}", error)
    return str(address)


def _library(wanted: str) -> ModuleType:
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError:
        raise UserError(
            f"{wanted} needs the package huggingface_hub: pip install huggingface_hub"
        ) from None


def _downloaded(hub: ModuleType, address: Address) -> Path:
    file = address.file
    if file is None:
        info = hub.HfApi().model_info(address.repo, revision=address.revision, timeout=30)
        file = _only([sibling.rfilename for sibling in info.siblings or ()], address)
    path = Path(hub.hf_hub_download(address.repo, file, revision=address.revision))
    # timm says there which pixels its networks take; others have none, or another one.
    beside = str(PurePosixPath(file).with_name("config.json"))
    with contextlib.suppress(hub.errors.EntryNotFoundError):
        config = hub.hf_hub_download(address.repo, beside, revision=address.revision)
        _check(Path(config), address)
    return path


def _only(files: Sequence[str], address: Address) -> str:
    """Return the one weights file among a repository's files.

    Raises:
      UserError: if there is none, or several.
    """
    for ending in _ENDINGS:
        found = [file for file in files if file.endswith(ending)]
        if f"model{ending}" in found:
            return f"model{ending}"
        if len(found) == 1:
            return found[0]
        if found:
            few = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
            raise UserError(
                f"{address} has several weights files, {few}; name one: {address}/{found[0]}"
            )
    raise UserError(f"{address} has no weights file; known endings are {', '.join(_ENDINGS)}")


def _cached(hub: ModuleType, address: Address, error: Exception) -> Path:
    """Return the file in the cache, after the hub could not be asked for it.

    Raises:
      UserError: if it is not there, or the hub did answer.
    """
    answer = getattr(error, "response", None)
    if answer is not None and answer.status_code < 500:
        _refuse(f"cannot download {address}", error)
    path = _in_cache(hub, address)
    if path is None:
        _refuse(f"cannot download {address}, and it is not in the cache", error)
    _LOG.info("%s: taken from the cache (%s)", address, first_line(error)[:200])
    return path


def _in_cache(hub: ModuleType, address: Address) -> Path | None:
    try:
        repos = hub.scan_cache_dir().repos
    except hub.errors.CacheNotFound:
        return None
    for repo in repos:
        if (repo.repo_type, repo.repo_id) != ("model", address.repo):
            continue
        for revision in repo.revisions:
            if address.revision not in (*revision.refs, revision.commit_hash):
                continue
            paths = {
                each.file_path.relative_to(revision.snapshot_path).as_posix(): each.file_path
                for each in revision.files
            }
            if any(name.endswith(_ENDINGS) for name in paths):
                return paths.get(address.file or _only([*paths], address))
    return None


def _check(path: Path, address: Address) -> None:
    """Compare a file with the hash that the hub gave for it, which is its blob's name.

    It is the SHA-256 of a large file, and the SHA-1 that git computes of a small one.

    Raises:
      UserError: if it differs.
    """
    expected = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", expected):
        digest = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", expected):
        digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    else:
        raise UserError(f"{address} cannot be checked: the hub gave no hash of {path.name}")
    with path.open("rb") as file:
        while block := file.read(2**24):
            digest.update(block)
    if digest.hexdigest() != expected:
        raise UserError(
            f"{address} is damaged: its hash is not the hub's; delete {path.resolve()} and try "
            "again"
        )


def _refuse(what: str, error: Exception) -> NoReturn:
    from huggingface_hub import errors

    reasons = {
        errors.GatedRepoError: "access is granted by its owner only: ask for it on its page, then "
        "set HF_TOKEN",
        errors.RepositoryNotFoundError: "there is no such repository, or it is private: check the "
        "name, or set HF_TOKEN",
        errors.RevisionNotFoundError: "there is no such revision",
        errors.RemoteEntryNotFoundError: "there is no such file in it",
        errors.OfflineModeIsEnabled: "HF_HUB_OFFLINE is set",
        errors.LocalTokenNotFoundError: "you are not logged in: set HF_TOKEN",
    }
    for kind, reason in reasons.items():
        if isinstance(error, kind):
            raise UserError(f"{what}: {reason}") from None
    raise UserError(f"{what}: {first_line(error)[:200]}") from None
