"""An instance with a project that is worked on, for the tests of what the API says of work."""

from __future__ import annotations

from typing import Any

from meshd.api.app import create_app
from meshd.configuration import Configuration
from meshd.core.inputs import PutProject, Started
from meshd.model import JsonObject
from tests.api.local import ALONE, Local
from tests.core.boards import milestone, phase, project


def working(*phases: str | JsonObject, configuration: Configuration = ALONE, **fields: Any) -> Local:
    """It decides for itself, and knows the project `site` with these phases in its milestone `m`."""
    local = Local(configuration)
    local.step(Started())
    local.step(PutProject(1, "site", content(*phases, **fields)))
    return local


def content(*phases: str | JsonObject, **fields: Any) -> JsonObject:
    return project(milestone("m", *(phase(each) if isinstance(each, str) else each for each in phases)), **fields)


def client(local: Local) -> Any:
    return create_app(local.instance()).test_client()


async def got(http: Any, path: str, status: int = 200) -> Any:
    """What a GET answers."""
    return await answered(await http.get(path), status)


async def posted(http: Any, path: str, status: int = 200, **body: Any) -> Any:
    """What a POST answers; without a body when nothing is said."""
    return await answered(await (http.post(path, json=body) if body else http.post(path)), status)


async def answered(response: Any, status: int = 200) -> Any:
    told = await response.get_json(force=True)
    assert response.status_code == status, told
    return told
