"""What a browser gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.marathon.conftest import Marathon


@pytest.mark.parametrize("path", ["/", "/ui"])
async def test_a_browser_is_led_to_the_page(marathon: Marathon, path: str) -> None:
    answer = await marathon.request("GET", path, allow_redirects=False)
    page = await marathon.request("GET", path)

    assert (answer.status, answer.headers["Location"]) == (302, "/ui/")
    assert (page.status, page.content_type) == (200, "text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


async def test_help_lists_every_path_with_its_methods(marathon: Marathon) -> None:
    status, said = await marathon.ask("GET", "/help")

    methods = {one["path"]: one["methods"] for one in said["paths"]}
    assert status == 200
    assert methods["/v2/apps/{id}"] == ["DELETE", "GET", "HEAD", "PATCH", "PUT"]
    assert methods["/v2/leader"] == ["DELETE", "GET", "HEAD"]
    assert "/v2/pods/{id}::status" in methods
    assert not [path for path in methods if ":/" in path or "[" in path]
