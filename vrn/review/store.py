"""The history of labels: SQLite beside the run, or PostgreSQL by URL, through the same statements.

A row is never changed or deleted. A label is a row, a changed mind is a newer row for the same
showing, an undo is a newer row without a label. `Store.append` returns when the rows are on disk:
SQLite writes its log through (WAL, synchronous=FULL), PostgreSQL commits synchronously.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from data.errors import UserError
from vrn.review.design import Task

_META = sa.MetaData()
_STUDIES = sa.Table(
    "studies",
    _META,
    sa.Column("study", sa.String(100), primary_key=True),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
)
_TASKS = sa.Table(
    "tasks",
    _META,
    sa.Column("study", sa.String(100), sa.ForeignKey("studies.study"), primary_key=True),
    sa.Column("rater", sa.String(100), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sample_id", sa.String(200), nullable=False),
    sa.Column("real", sa.Boolean, nullable=False),
    sa.Column("repeat", sa.Boolean, nullable=False),
)
_HISTORY = sa.Table(
    "history",
    _META,
    # SQLite counts rows only where the type is INTEGER.
    sa.Column(
        "row", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True,
        autoincrement=True,
    ),
    sa.Column("study", sa.String(100), nullable=False),
    sa.Column("rater", sa.String(100), nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("request", sa.String(36), nullable=False),
    sa.Column("part", sa.Integer, nullable=False),
    sa.Column("label", sa.String(40)),
    sa.Column("faults", sa.Text, nullable=False),
    sa.Column("seconds", sa.Double, nullable=False),
    sa.Column("time", sa.Double, nullable=False),
    sa.ForeignKeyConstraint(
        ["study", "rater", "place"], ["tasks.study", "tasks.rater", "tasks.place"]
    ),
    sa.UniqueConstraint("study", "rater", "request", "part"),
    sa.Index("history_of_rater", "study", "rater", "place"),
    sqlite_autoincrement=True,
)  # fmt: skip

READING = {"isolation_level": "AUTOCOMMIT"}
# A server has 40 threads, each of which may need a connection.
_POOL: dict[str, Any] = {"pool_size": 10, "max_overflow": 40, "pool_timeout": 60}
_BLOCK = 1000  # rows of one statement


@dataclasses.dataclass(frozen=True)
class Mark:
    """What a rater said of one showing.

    Attributes:
      place: the showing's number in the rater's order.
      label: a name of the study's label set, `SKIPPED`, or None: what was said before is withdrawn.
      faults: short texts.
      seconds: how long the image was looked at.
    """

    place: int
    label: str | None
    faults: tuple[str, ...] = ()
    seconds: float = 0.0


SKIPPED = "skipped"


@dataclasses.dataclass(frozen=True)
class Kept(Mark):
    """A mark in the history.

    Attributes:
      row: number, ascending in the order of saving.
      rater: who.
      time: when, in seconds since 1970 (UTC).
    """

    row: int = 0
    rater: str = ""
    time: float = 0.0


class Store:
    """Studies, their tasks and all that was said; safe to use from many threads and processes."""

    def __init__(self, url: str) -> None:
        """Opens a database, and makes its tables where they are missing.

        Args:
          url: of SQLAlchemy, e.g. `sqlite:////data/review.sqlite` or
            `postgresql+psycopg://reader@localhost/reviews`.

        Raises:
          UserError: it cannot be opened.
        """
        try:
            self._engine = _engine(url)
            with self._engine.begin() as connection:
                _META.create_all(connection)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            shown = url if "://" not in url else _without_password(url)
            raise UserError(
                f"The review database {shown} cannot be opened ({_first_line(error)}); mend "
                "--config.review.database."
            ) from error

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()

    def begin(self, study: str, settings: dict[str, Any]) -> dict[str, Any]:
        """Makes a study unless it is there; returns the settings it was begun with."""
        text = json.dumps(settings, sort_keys=True)
        with self._engine.begin() as connection:
            found = connection.scalar(
                sa.select(_STUDIES.c.settings).where(_STUDIES.c.study == study)
            )
            if found is None:
                connection.execute(
                    _STUDIES.insert().values(study=study, settings=text, created=time.time())
                )
        return json.loads(found or text)

    def settings(self, study: str) -> dict[str, Any] | None:
        """The settings a study was begun with; None where there is no such study."""
        with self._reading() as connection:
            found = connection.scalar(
                sa.select(_STUDIES.c.settings).where(_STUDIES.c.study == study)
            )
        return None if found is None else json.loads(found)

    def add_tasks(self, study: str, plans: Mapping[str, Sequence[Task]]) -> None:
        """Adds showings after those that each rater has: for all raters or, killed, for none."""
        with self._engine.begin() as connection:
            for rater, tasks in plans.items():
                mine = sa.and_(_TASKS.c.study == study, _TASKS.c.rater == rater)
                last = connection.scalar(sa.select(sa.func.max(_TASKS.c.place)).where(mine))
                first = 0 if last is None else last + 1
                rows = [
                    {"study": study, "rater": rater, "place": first + i, **dataclasses.asdict(task)}
                    for i, task in enumerate(tasks)
                ]
                for start in range(0, len(rows), _BLOCK):
                    connection.execute(_TASKS.insert(), rows[start : start + _BLOCK])

    def tasks(self, study: str, rater: str) -> list[Task]:
        """The showings of a rater; the one at place i is number i."""
        query = (
            sa.select(_TASKS.c.sample_id, _TASKS.c.real, _TASKS.c.repeat)
            .where(_TASKS.c.study == study, _TASKS.c.rater == rater)
            .order_by(_TASKS.c.place)
        )
        with self._reading() as connection:
            return [Task(*row) for row in connection.execute(query)]

    def raters(self, study: str) -> list[str]:
        """Who has tasks, in alphabetical order."""
        query = sa.select(_TASKS.c.rater).where(_TASKS.c.study == study).distinct()
        with self._reading() as connection:
            return sorted(connection.scalars(query))

    def append(self, study: str, rater: str, request: str, marks: Sequence[Mark]) -> int:
        """Adds marks to the history, all or none; they are on disk when this returns.

        Args:
          study: its name.
          rater: who.
          request: any text of up to 36 characters; marks of a request that was saved before are
            not saved again, so that a page may ask again where it had no answer.
          marks: of one rater.

        Returns:
          How many marks of this request are in the history.
        """
        now = time.time()
        rows = [
            {
                "study": study, "rater": rater, "request": request, "part": part, "time": now,
                "place": mark.place, "label": mark.label, "seconds": mark.seconds,
                "faults": json.dumps(mark.faults),
            }
            for part, mark in enumerate(marks)
        ]  # fmt: skip
        try:
            with self._engine.begin() as connection:
                connection.execute(_HISTORY.insert(), rows)
        except sa.exc.IntegrityError:
            of_request = sa.and_(
                _HISTORY.c.study == study, _HISTORY.c.rater == rater, _HISTORY.c.request == request
            )
            with self._reading() as connection:
                found = connection.scalar(
                    sa.select(sa.func.count()).select_from(_HISTORY).where(of_request)
                )
            if not found:
                raise
            return int(found)
        return len(rows)

    def history(self, study: str, rater: str | None = None) -> list[Kept]:
        """All that was ever said in a study, or by one rater, in the order of saving."""
        query = sa.select(_HISTORY).where(_HISTORY.c.study == study).order_by(_HISTORY.c.row)
        if rater is not None:
            query = query.where(_HISTORY.c.rater == rater)
        with self._reading() as connection:
            return [
                Kept(
                    place=row.place,
                    label=row.label,
                    faults=tuple(json.loads(row.faults)),
                    seconds=row.seconds,
                    row=row.row,
                    rater=row.rater,
                    time=row.time,
                )
                for row in connection.execute(query)
            ]

    def current(self, study: str, rater: str) -> dict[int, Kept]:
        """The last word on every showing that has one, by place."""
        last = {mark.place: mark for mark in self.history(study, rater)}
        return {place: mark for place, mark in last.items() if mark.label is not None}

    def _reading(self) -> Any:
        return self._engine.connect().execution_options(**READING)


def _engine(url: str) -> sa.Engine:
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "postgresql":
        options = "-c synchronous_commit=on"
        return sa.create_engine(
            parsed, pool_pre_ping=True, connect_args={"options": options}, **_POOL
        )
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        raise sa.exc.ArgumentError("give a file of SQLite or a PostgreSQL server")
    pathlib.Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(parsed, connect_args={"timeout": 60}, **_POOL)

    @sa.event.listens_for(engine, "connect")
    def _connect(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A transaction that reads before it writes would else fail where another wrote meanwhile.
        if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _without_password(url: str) -> str:
    try:
        return sa.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return "of --config.review.database"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".")
