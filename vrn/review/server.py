"""The web application: hands out images in order, takes labels in, shows the lead the statistics.

Every route but the token's needs the cookie of whom it names. Requests name showings by number and
images by opaque names; none holds a path of a file.
"""

import dataclasses
import functools
import pathlib
import secrets
from collections.abc import Callable, Collection, Mapping
from typing import Annotated, Any, Literal

import fastapi
import jinja2
from fastapi import Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from pydantic import BaseModel, ConfigDict, Field

from vrn.review import access, design
from vrn.review.pictures import Gallery
from vrn.review.store import SKIPPED, Mark
from vrn.review.study import LEAD, Study

PAGES = pathlib.Path(__file__).parent / "pages"
SCRIPTS = {
    "review.js": "text/javascript", "pixels.js": "text/javascript", "saving.js": "text/javascript",
    "view.js": "text/javascript", "grid.js": "text/javascript", "review.css": "text/css",
}  # fmt: skip
Who = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,40}$")]
_TEXT = r"^[^\x00-\x1f\x7f]+$"  # no control characters
_DAY = 86_400.0


class Entry(BaseModel):
    """One mark."""

    model_config = ConfigDict(extra="forbid")
    place: Annotated[int, Field(ge=0, lt=2**31, strict=True)]
    label: Annotated[str, Field(max_length=40)] | None
    faults: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=60, pattern=_TEXT)]],
        Field(max_length=20),
    ] = []
    seconds: Annotated[float, Field(ge=0, le=_DAY, allow_inf_nan=False)] = 0.0


class Marks(BaseModel):
    """Marks that are saved together; `request` makes asking twice safe."""

    model_config = ConfigDict(extra="forbid")
    request: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    entries: Annotated[list[Entry], Field(min_length=1, max_length=1000)]


class Saved(BaseModel):
    """What is on disk."""

    saved: int


class Shown(BaseModel):
    """One showing, in the order of the rater."""

    place: int
    image: str
    label: str | None
    faults: list[str]


class Answer(BaseModel):
    """One label of the study's set."""

    name: str
    key: str
    score: float


class Form(BaseModel):
    """See `vrn.review.pictures.Form`."""

    depth: int
    height: int
    width: int
    channels: int
    bits: Literal[8, 16]
    low: int
    high: int


class Queue(BaseModel):
    """All that the page needs to begin."""

    study: str
    rater: str
    labels: list[Answer]
    skipped: str
    faults: list[str]
    form: Form
    tasks: list[Shown]


class Refusal(BaseModel):
    """Why a request was refused."""

    detail: str


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (400, 401, 403, 404, 413, 421, 422)
}


@dataclasses.dataclass(frozen=True)
class Desk:
    """What the application works with.

    Attributes:
      study: the study.
      gallery: its images.
      keys: who may ask.
      faults: preset fault tags.
      uncertainty: sample id to distance from the VRN's decision, for the active order; empty: the
        seeded order.
      statistics: makes the lead's page; the numbers themselves with it.
    """

    study: Study
    gallery: Gallery
    keys: access.Keys
    faults: tuple[str, ...]
    uncertainty: Mapping[str, float]
    statistics: Callable[[], tuple[str, dict[str, Any]]]


def application(desk: Desk, hosts: Collection[str]) -> fastapi.FastAPI:
    """Builds the application.

    Args:
      desk: what it works with.
      hosts: names it may be called by.
    """
    app = fastapi.FastAPI(
        title="VRN reader study", version="1", docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(access.Guard, hosts=hosts)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)
    people = {*desk.study.settings.raters, LEAD}
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined
    )

    def anyone(who: Who, request: Request) -> str:
        cookie = request.cookies.get(desk.keys.cookie_name, "")
        if who not in people or not desk.keys.is_cookie(who, cookie):
            raise HTTPException(401, "Open the address that was printed when the server started.")
        return who

    def rater(who: Annotated[str, Depends(anyone)]) -> str:
        if who == LEAD:
            raise HTTPException(403, "The lead labels nothing; open the address of a rater.")
        return who

    def lead(who: Annotated[str, Depends(anyone)]) -> str:
        if who != LEAD:
            raise HTTPException(403, "The statistics would unblind a rater; they are the lead's.")
        return who

    @functools.cache
    def tasks_of(who: str) -> list[design.Task]:
        return desk.study.store.tasks(desk.study.name, who)

    @functools.cache
    def images_of(who: str) -> dict[str, str]:
        return {desk.gallery.name(task.sample_id): task.sample_id for task in tasks_of(who)}

    def closed() -> Response:
        return HTMLResponse(pages.get_template("closed.html").render(), 401)

    @app.get("/", include_in_schema=False)
    def nowhere() -> Response:
        return closed()

    @app.get("/{who}/", include_in_schema=False)
    def page(
        who: Who, request: Request, token: Annotated[str, Query(max_length=200)] = ""
    ) -> Response:
        if token:
            if who not in people or not desk.keys.is_token(who, token):
                return closed()
            moved = RedirectResponse(f"/{who}/", 303)
            # Of this path alone, so that rater and lead can be open in one browser.
            moved.set_cookie(
                desk.keys.cookie_name, desk.keys.cookie(who), path=f"/{who}/",
                max_age=90 * int(_DAY), httponly=True, samesite="strict",
                secure=request.url.scheme == "https",
            )  # fmt: skip
            return moved
        try:
            anyone(who, request)
        except HTTPException:
            return closed()
        if who == LEAD:
            return _with_style(desk.statistics()[0])
        return HTMLResponse(
            pages.get_template("review.html").render(
                study=desk.study.name, rater=who, csrf=desk.keys.csrf(who)
            )
        )

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str) -> Response:
        if name not in SCRIPTS:
            raise HTTPException(404, "There is no such file.")
        return Response((PAGES / name).read_bytes(), media_type=SCRIPTS[name])

    @app.get("/{who}/api/queue", responses=_REFUSALS)
    def queue(who: Annotated[str, Depends(rater)]) -> Queue:
        """All showings of the rater in order, with what was said of them."""
        tasks, current = tasks_of(who), desk.study.store.current(desk.study.name, who)
        done = sorted(current, key=lambda place: current[place].row)
        # In the order in which they were labelled; then what is left.
        left = [place for place in range(len(tasks)) if place not in current]
        order = design.active([tasks[place] for place in left], desk.uncertainty)
        shown = [
            Shown(
                place=place,
                image=desk.gallery.name(tasks[place].sample_id),
                label=current[place].label if place in current else None,
                faults=list(current[place].faults) if place in current else [],
            )
            for place in (*done, *(left[index] for index in order))
        ]
        return Queue(
            study=desk.study.name,
            rater=who,
            labels=[Answer(**dataclasses.asdict(label)) for label in desk.study.labels],
            skipped=SKIPPED,
            faults=list(desk.faults),
            form=Form(**dataclasses.asdict(desk.gallery.form)),
            tasks=shown,
        )

    @app.get(
        "/{who}/api/images/{image}",
        response_class=Response,
        responses=_REFUSALS | {200: {"content": {"application/octet-stream": {}}}},
    )
    def pixels(
        image: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")],
        who: Annotated[str, Depends(rater)],
    ) -> Response:
        """The pixels of one image, as the queue's `form` tells."""
        sample_id = images_of(who).get(image)
        if sample_id is None:
            raise HTTPException(404, "There is no such image in this study.")
        return Response(desk.gallery.pixels(sample_id), media_type="application/octet-stream")

    names = {label.name for label in desk.study.labels} | {SKIPPED, None}

    @app.post("/{who}/api/labels", responses=_REFUSALS)
    def label(
        marks: Marks,
        who: Annotated[str, Depends(rater)],
        x_csrf_token: Annotated[str, Header(max_length=200)] = "",
    ) -> Saved:
        """Adds marks to the history; answers when they are on disk."""
        if not desk.keys.is_csrf(who, x_csrf_token):
            raise HTTPException(403, "The page is out of date; load it again.")
        count = len(tasks_of(who))
        for entry in marks.entries:
            if entry.place >= count:
                raise HTTPException(404, "There is no such showing in this study.")
            if entry.label not in names:
                raise HTTPException(422, "There is no such label in this study.")
        saved = desk.study.store.append(
            desk.study.name,
            who,
            marks.request,
            [Mark(e.place, e.label, tuple(e.faults), e.seconds) for e in marks.entries],
        )
        return Saved(saved=saved)

    @app.get("/{who}/api/statistics", responses=_REFUSALS)
    def statistics(who: Annotated[str, Depends(lead)]) -> dict[str, Any]:
        """The numbers of the lead's page."""
        return desk.statistics()[1]

    @app.get("/{who}/api/openapi.json", include_in_schema=False)
    def schema(who: Annotated[str, Depends(anyone)]) -> JSONResponse:
        return JSONResponse(app.openapi())

    return app


def _with_style(text: str) -> Response:
    """A page whose own style, and no other, the browser may apply."""
    nonce = secrets.token_urlsafe(16)
    policy = access.HEADERS["content-security-policy"]
    return HTMLResponse(
        text.replace("<style>", f'<style nonce="{nonce}">'),
        headers={
            "content-security-policy": policy.replace(
                "style-src 'self'", f"style-src 'nonce-{nonce}'"
            )
        },
    )


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Which field is wrong and how, without a copy of what was sent."""
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if isinstance(part, str))
    return JSONResponse({"detail": f"{where}: {first['msg']}"}, 422)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    """Tells nothing of what went wrong inside; the server's own log has it."""
    del request, error
    return JSONResponse({"detail": "The server failed; nothing was saved."}, 500)
