"""The HTTP API's frame: routes, the envelope, and what goes wrong said in one way.

The one idea: a handler is an `async` function from a `Call` to data. It raises `ApiError` for everything it will not
do; whatever else it raises becomes a 500 that tells the client nothing. Every answer has the envelope of the
contract: `{"success", "data", "error", "code", "timestamp"}`.
"""

import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from oxidecast.accounts.accounts import Accounts
from oxidecast.accounts.admission import Admission
from oxidecast.accounts.errors import InvalidToken, Overloaded
from oxidecast.accounts.roles import Permission, may
from oxidecast.database.audit import ANONYMOUS, Actor
from oxidecast.database.errors import Conflict, DatabaseUnavailable, Outdated
from oxidecast.database.users import User, actor
from oxidecast.delivery.envelope import envelope
from oxidecast.web import limits
from oxidecast.web.fields import in_words
from oxidecast.web.nesting import DEEPEST, too_deep
from oxidecast.web.paths import Path
from oxidecast.web.protection import DATA
from oxidecast.web.request import base_of, scheme_of
from oxidecast.web.unattended import Unattended

T = TypeVar("T")

MOST_PER_PAGE = 100
"""Items in one answer: what a page of a dashboard shows at most, and what a query reads in a few milliseconds."""

MOST_CALLS = 1000
"""Calls that are being answered at once. A call takes milliseconds; when so many wait, for a database that hangs for
example, more would only wait longer."""

LONGEST_CALL = 30.0
"""Seconds after which a call that is not answered is given up. The slowest, a page of a list over a million rows on a
busy machine, takes one."""

MOST_FAULTS = 10
"""Unknown fields that an answer names: a body may hold thousands."""


class ApiError(Exception):
    """What the client did wrong, or what cannot be done now."""

    def __init__(
        self,
        status: int,
        code: str,
        sentence: str,
        headers: Sequence[tuple[str, str]] = (),
        fields: Any = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.headers = headers
        self.fields = fields
        """For a 422: what is wrong, by field."""


SOON = (("Retry-After", "1"),)


def not_found(sentence: str = "There is nothing at this address.") -> ApiError:
    return ApiError(404, "not_found", sentence)


def invalid(field: str, fault: str) -> ApiError:
    """A 422 for one field of a body, or one parameter of a query."""
    return ApiError(422, "invalid", f"{field}: {fault}.", fields={field: fault})


def unauthorised(sentence: str, code: str = "unauthorised") -> ApiError:
    return ApiError(401, code, sentence, [("WWW-Authenticate", 'Bearer realm="oxidecast"')])


@dataclass(frozen=True)
class Reply:
    """An answer that is not simply 200."""

    data: Any
    status: int = 200
    headers: Sequence[tuple[str, str]] = ()


class Answered:
    """What a handler returns that has answered the request itself, or will: with a file, not with an envelope."""


ANSWERED = Answered()


class Page(msgspec.Struct, Generic[T], frozen=True):
    """A part of a list, as lists are answered."""

    items: list[T]
    total: int
    page: int
    limit: int
    total_pages: int


@dataclass
class Call:
    """One request to the API, as its handler sees it."""

    request: Request
    arguments: dict[str, str]
    """What the path's `{...}` matched."""
    address: str
    user: User | None
    """Who calls, if a valid access token said so."""
    content: bytes
    """The request's body, kept: a request forgets its own when the client hangs up."""
    unchecked: DatabaseUnavailable | None = None
    """Why nobody knows whose access token was given."""

    @property
    def actor(self) -> Actor:
        """The caller, as the audit log names one."""
        return (
            actor(self.user, self.address) if self.user is not None else Actor(ANONYMOUS, None, self.address)
        )

    def authenticated(self) -> User:
        """The caller, who must be known."""
        if self.unchecked is not None:
            raise self.unchecked
        if self.user is None:
            raise unauthorised("Log in first: this needs an access token.")
        return self.user

    def require(self, permission: Permission) -> User:
        """The caller, who must have this permission."""
        user = self.authenticated()
        if not may(user, permission):
            raise ApiError(403, "forbidden", f"The role {user.role} may not do this.")
        return user

    @property
    def base(self) -> str:
        """`http://HOST:PORT`, as the world or this client knows this server."""
        base = base_of(self.request)
        if base is None:
            raise ApiError(400, "malformed", "The Host header is not valid.")
        return base

    def query(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values: list[bytes] = (self.request.args or {}).get(name.encode(), [])
        if not values:
            return None
        if b"\0" in values[-1]:  # No text in a database holds one; PostgreSQL refuses to look for it.
            raise invalid(name, "expected text without NUL")
        return values[-1].decode("utf-8", "replace")

    def choice(self, name: str, choices: Sequence[str]) -> str | None:
        """A query parameter that is one of a few words."""
        value = self.query(name)
        if value is not None and value not in choices:
            raise invalid(name, f"expected one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool | None:
        """A query parameter that is `true` or `false`."""
        value = self.query(name)
        if value is None:
            return None
        if value not in ("true", "false"):
            raise invalid(name, "expected true or false")
        return value == "true"

    def paging(self) -> tuple[int, int]:
        """`page` and `limit`."""
        numbers = []
        for name, default, most in (("page", 1, 1_000_000), ("limit", 20, MOST_PER_PAGE)):
            text = self.query(name) or str(default)
            if not re.fullmatch("[0-9]{1,7}", text) or not 1 <= int(text) <= most:
                raise invalid(name, f"expected a whole number from 1 to {most}")
            numbers.append(int(text))
        return numbers[0], numbers[1]

    def optional_body(self, type: type[T]) -> T:
        """The request's JSON body; without one, what all defaults make."""
        return self.body(type) if self.content else type()

    def body(self, type: type[T]) -> T:
        """The request's JSON body."""
        content_type = (self.request.getHeader("content-type") or "").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise ApiError(415, "unsupported_media_type", "The body must be application/json.")
        raw = self.content
        if too_deep(raw):
            raise ApiError(400, "malformed", f"The body is nested deeper than {DEEPEST} levels.")
        try:
            return msgspec.json.decode(raw, type=type)
        except msgspec.ValidationError as error:
            fields = _faults(raw, type) or {"body": in_words(str(error))}
            sentence = "; ".join(f"{name}: {fault}" for name, fault in fields.items())
            raise ApiError(422, "invalid", f"{sentence}.", fields=fields)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise ApiError(400, "malformed", "The body is not valid JSON.")


def _template(request: Request) -> str:
    """What a log says of the address: people paste keys into it."""
    return str(getattr(request, "template", ""))


def _faults(raw: bytes, struct: type) -> dict[str, str]:
    """What is wrong with a body, by field: msgspec stops at the first fault, a person wants to hear of all."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    faults = {}
    known = msgspec.structs.fields(struct)
    for field in known:
        if field.encode_name not in body:
            if field.required:
                faults[field.encode_name] = "This field is required"
            continue
        try:
            msgspec.convert(body[field.encode_name], field.type)
        except msgspec.ValidationError as error:
            faults[field.encode_name] = in_words(str(error))
    unknown = body.keys() - {field.encode_name for field in known}
    return faults | dict.fromkeys(sorted(unknown)[:MOST_FAULTS], "There is no such field")


Handler = Callable[[Call], Coroutine[Any, Any, Any]]


@dataclass(frozen=True)
class Query:
    """A parameter of an address's query, for the document."""

    name: str
    type: Any
    description: str


PAGING = (
    Query("page", Annotated[int, msgspec.Meta(ge=1, le=1_000_000)], "Which page, from 1."),
    Query("limit", Annotated[int, msgspec.Meta(ge=1, le=MOST_PER_PAGE)], "Items on a page; 20 by default."),
)


@dataclass(frozen=True)
class Route:
    """A method and a path below `/api/v1`, such as `/streams/{stream}/url`; the handler's docstring says what it does.

    What is said here of access is enforced before the handler is asked; what is said of bodies, answers and statuses
    makes the OpenAPI document, and a test holds the handlers to it.
    """

    method: str
    path: str
    handler: Handler
    anonymous: bool = False
    """Whether an Authorization header is ignored: who refreshes a token may well send the one that has expired."""
    login: bool = False
    """Whether the caller must be logged in."""
    needs: Permission | None = None
    """What the caller's role must permit; nobody has a permission without a login."""
    body: Any = None
    """The type of the JSON body."""
    body_optional: bool = False
    answer: Any = None
    """The type of the answer's `data`."""
    status: int = 200
    """Of the answer when all went well."""
    refusals: Sequence[int] = ()
    """Statuses besides those that follow from the rest: see `openapi`."""
    query: Sequence[Query] = ()
    if_match: bool = False
    """Whether the handler heeds If-Match."""
    media: str = ""
    """The type of the answer's bytes, of which ranges can be asked, where the answer is a file and no envelope."""
    limit: str = "api"
    """The class of `accounts.admission` that its calls count in."""
    gives_up: bool = False
    """Whether a call that is no GET is given up, too, when its client hangs up: one that has others work before it
    writes (hashes a password, asks an address outside), and writes once, if at all. The rest is done to its end."""

    @property
    def runs_on(self) -> bool:
        return self.method != "GET" and not self.gives_up

    @property
    def is_guarded(self) -> bool:
        return self.login or self.needs is not None


class Api(Resource):
    """Everything below `/api/v1` that is not an output's own."""

    isLeaf = True
    log = Logger()

    def __init__(
        self,
        routes: Sequence[Route],
        accounts: Accounts,
        origins: Callable[[], Sequence[str]],
        clock: IReactorTime,
        admission: Admission | None = None,
    ) -> None:
        super().__init__()
        self._accounts = accounts
        self._origins = origins
        self._clock = clock
        self._admission = admission
        self._calls = 0
        self._unattended = Unattended()
        self.routes = tuple(routes)
        paths: dict[str, Path[Route]] = {}
        for route in routes:
            paths.setdefault(route.path, Path(route.path)).methods[route.method] = route
        # Fixed paths are looked at before those with a variable in them.
        self._paths = sorted(paths.values(), key=lambda compiled: compiled.variables)

    def render(self, request: Request) -> int:
        self._calls += 1
        call = Deferred.fromCoroutine(self._answer(request))
        call.addBoth(self._ended)
        request.notifyFinish().addErrback(lambda _: call.cancel())
        return NOT_DONE_YET

    def _ended(self, result: Any) -> Any:
        self._calls -= 1
        return result

    async def _answer(self, request: Request) -> None:
        try:
            self._allow_origin(request)
            if self._calls + self._unattended.count > MOST_CALLS:
                raise ApiError(503, "overloaded", "Too many calls at once: try again in a moment.", SOON)
            call = Deferred.fromCoroutine(self._call(request))
            reply = await call.addTimeout(LONGEST_CALL, self._clock)
            if isinstance(reply, Answered):
                return
            status, headers, body = reply.status, reply.headers, envelope(self._seconds(), reply.data)
        except CancelledError:
            return
        except Exception as raised:
            error = self._error(request, raised)
            data = {"fields": error.fields} if error.fields else None
            status, headers = error.status, error.headers
            body = envelope(self._seconds(), data, error.sentence, error.code)
        self._send(request, status, headers, body)

    def _error(self, request: Request, raised: Exception) -> ApiError:
        """What the client hears of an exception."""
        if isinstance(raised, ApiError):
            return raised
        if isinstance(raised, DatabaseUnavailable):
            # The server says once that it is away; callers may come by the thousand.
            self.log.debug("{path} could not be done: {error}", path=_template(request), error=raised)
            sentence = "The database is away: try again in a moment."
            return ApiError(503, "database_away", sentence, [("Retry-After", "5")])
        if isinstance(raised, Overloaded):
            return ApiError(503, raised.code, str(raised), SOON)
        if isinstance(raised, TimeoutError):
            self.log.error("an API call took too long: {path}", path=_template(request))
            return ApiError(503, "timed_out", "This takes too long to be waited for: try again later.", SOON)
        if isinstance(raised, Outdated):
            return ApiError(412, "changed_meanwhile", str(raised))
        if isinstance(raised, Conflict):
            # What a handler looked at first was changed by somebody else before it wrote.
            return ApiError(409, "conflict", str(raised))
        self.log.failure("an API call failed: {path}", path=_template(request))
        return ApiError(500, "internal", "Something went wrong on the server.")

    def _failed(self, request: Request, failure: Failure) -> None:
        """No client hears of this one any more."""
        try:
            failure.raiseException()
        except Exception as raised:
            self._error(request, raised)

    async def _call(self, request: Request) -> Reply | Answered:
        # What follows /api/v1, decoded here and only here, so that %2F stays inside a name.
        segments = [
            unquote_to_bytes(part).decode("utf-8", "replace") for part in request.path.split(b"/")[3:]
        ]
        method = request.method.decode("latin-1")
        address = getattr(request.getClientAddress(), "host", "")
        for compiled in self._paths:
            arguments = compiled.match(segments)
            if arguments is None:
                continue
            methods = set(compiled.methods) | ({"HEAD"} if "GET" in compiled.methods else set())
            allow = [("Allow", ", ".join(sorted(methods | {"OPTIONS"})))]
            if method == "OPTIONS":
                # Not counted: a preflight that is refused hides from a page why its call is.
                request.setHeader("Access-Control-Allow-Methods", ", ".join(sorted(methods)))
                return Reply(None, 200, allow)
            route = compiled.methods.get("GET" if method == "HEAD" else method)
            self._admit(route.limit if route is not None else "api", address)
            if route is None:
                raise ApiError(405, "method_not_allowed", f"{method} is not possible here.", allow)
            request.template = f"{route.method} {route.path}"  # type: ignore[attr-defined]
            assert request.content is not None
            call = Call(request, arguments, address, None, request.content.read())
            if not route.anonymous:
                try:
                    call.user = await self._caller(request)
                except DatabaseUnavailable as error:
                    call.unchecked = error  # What anybody may do, this caller may do too.
            if call.user is not None:
                self._admit(route.limit, address, call.user.id)
            if route.login:
                call.authenticated()
            if route.needs is not None:
                call.require(route.needs)
            work = route.handler(call)
            if route.runs_on:
                result = await self._unattended.begin(work, partial(self._failed, request))
            else:
                result = await work
            return result if isinstance(result, Reply | Answered) else Reply(result)
        self._admit("api", address)
        raise not_found()

    def _admit(self, kind: str, address: str, user: str | None = None) -> None:
        """Count a call; raises ApiError for one too many."""
        wait = self._admission.take(kind, address, user) if self._admission is not None else 0
        if wait:
            raise ApiError(429, limits.CODE, limits.SENTENCE.format(wait=wait), [("Retry-After", str(wait))])

    def _seconds(self) -> float:
        return float(self._clock.seconds())

    async def _caller(self, request: Request) -> User | None:
        scheme, _, token = (request.getHeader("authorization") or "").partition(" ")
        if not scheme:
            return None
        try:
            if scheme.lower() != "bearer":
                raise unauthorised("The Authorization header must be a Bearer token.")
            return await self._accounts.bearer(token.strip())
        except InvalidToken as error:
            raise ApiError(
                401, error.code, str(error), [("WWW-Authenticate", 'Bearer error="invalid_token"')]
            )

    def _allow_origin(self, request: Request) -> None:
        """Answer the origins that the settings name, and the server's own; nobody else."""
        origin = request.getHeader("origin")
        request.setHeader("Vary", "Origin")
        if origin is not None and (origin in self._origins() or origin == _own_origin(request)):
            request.setHeader("Access-Control-Allow-Origin", origin)
            request.setHeader("Access-Control-Allow-Headers", "Authorization, Content-Type, If-Match")
            request.setHeader("Access-Control-Expose-Headers", "ETag, Location, Retry-After")
            request.setHeader("Access-Control-Max-Age", "600")

    def _send(self, request: Request, status: int, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        request.setResponseCode(status, HTTPStatus(status).phrase.encode())
        request.setHeader("Content-Type", "application/json")
        request.setHeader("Cache-Control", "no-store")
        for name, value in (*DATA.items(), *headers):
            request.setHeader(name, value)
        request.setHeader("Content-Length", str(len(body)))
        if request.method != b"HEAD":
            request.write(body)
        request.finish()


def _own_origin(request: Request) -> str:
    """What a browser calls the origin of this server's pages (RFC 6454, 6.2)."""
    return f"{scheme_of(request)}://{request.getHeader('host') or ''}"
