"""GET, and nothing else of HTTP, with the standard library.

The hub's own client copies each byte three times on its way here, which costs four times as much as
all that a fetch does with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from http.client import HTTPMessage, HTTPResponse
from typing import IO
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

REDIRECTS = (301, 302, 303, 307, 308)


def get(url: str, headers: Mapping[str, str], silence_seconds: float) -> HTTPResponse:
    """Return the answer to a request, whatever its status; redirects are followed.

    Args:
        url: What is asked for.
        headers: Go with it. `Authorization` is not told to another host.
        silence_seconds: After which a server that says nothing is given up.

    Raises:
        OSError, http.client.HTTPException: There is no answer.
    """
    request = Request(url, headers=dict(headers))
    answer: HTTPResponse = _opener().open(request, timeout=silence_seconds)
    return answer


class _Answers(HTTPErrorProcessor):
    """Follows redirects, and takes any other answer as it is."""

    def http_response(self, request: Request, response: HTTPResponse) -> HTTPResponse:
        if response.status in REDIRECTS:
            followed: HTTPResponse = super().http_response(request, response)
            return followed
        return response

    https_response = http_response


class _Redirects(HTTPRedirectHandler):
    """Leaves at its host what is for that alone."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and _origin(newurl) != _origin(req.full_url):
            request.remove_header("Authorization")
        return request


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


@cache
def _opener() -> OpenerDirector:
    import httpx2

    director = OpenerDirector()
    director.addheaders = []
    for handler in (
        ProxyHandler(),
        HTTPHandler(),
        # Trust whom the hub's own client trusts, wherever this system keeps its certificates.
        HTTPSHandler(context=httpx2.create_ssl_context()),
        _Redirects(),
        _Answers(),
        HTTPDefaultErrorHandler(),
        UnknownHandler(),
    ):
        director.add_handler(handler)
    return director
