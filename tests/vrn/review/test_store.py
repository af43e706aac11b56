import concurrent.futures
import uuid

import pytest
import sqlalchemy as sa

from data.errors import UserError
from tests.vrn.review import databases
from vrn.review import design, study
from vrn.review.store import SKIPPED, Mark, Store

IDS = [f"s{i}" for i in range(60)]


@pytest.fixture(scope="module")
def postgres():
    with databases.postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/review.sqlite"
    server = request.getfixturevalue("postgres")
    engine = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    name = f"t{uuid.uuid4().hex}"
    with engine.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def store(url):
    opened = Store(url)
    opened.begin("main", {"a": 1})
    plans = {rater: design.plan(IDS, [], rater, 0.1, 0) for rater in ("ada", "bob")}
    opened.add_tasks("main", plans)
    yield opened
    opened.close()


def test_tasks_of_all_raters_are_added_or_none(store):
    before = store.tasks("main", "ada")
    bad = [design.Task(None, False, False)]
    with pytest.raises(sa.exc.IntegrityError):
        store.add_tasks("main", {"ada": before[:5], "bob": bad})
    assert store.tasks("main", "ada") == before


def test_the_last_word_counts_and_every_word_is_kept(store):
    store.append("main", "ada", "q1", [Mark(3, "real-like", ("texture",), 2.5)])
    store.append("main", "ada", "q2", [Mark(3, "non-real-like", (), 1.0), Mark(4, SKIPPED)])
    store.append("main", "bob", "q1", [Mark(3, "unsure")])
    current = store.current("main", "ada")
    assert current[3].label == "non-real-like"
    assert current[4].label == SKIPPED
    store.append("main", "ada", "q3", [Mark(3, None)])
    assert 3 not in store.current("main", "ada")
    history = store.history("main", "ada")
    assert [mark.label for mark in history] == ["real-like", "non-real-like", SKIPPED, None]
    assert history[0].faults == ("texture",)
    assert history[0].seconds == 2.5
    assert [mark.row for mark in history] == sorted(mark.row for mark in history)
    assert store.current("main", "bob")[3].label == "unsure"


def test_a_request_asked_again_is_saved_once(store):
    marks = [Mark(0, "real-like"), Mark(1, "real-like")]
    assert store.append("main", "ada", "again", marks) == 2
    assert store.append("main", "ada", "again", marks) == 2
    assert len(store.history("main")) == 2


def test_all_marks_of_a_request_are_saved_or_none(store):
    with pytest.raises(sa.exc.IntegrityError):
        store.append("main", "ada", "half", [Mark(0, "real-like"), Mark(10_000, "real-like")])
    assert store.history("main") == []


def test_raters_at_once_lose_nothing(url, store):
    def rate(number):
        mine = Store(url)  # as another process would
        rater = ("ada", "bob")[number % 2]
        for place in range(25):
            mine.append("main", rater, f"{number}-{place}", [Mark(place, "real-like")])
        mine.close()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(rate, range(8)))
    assert len(store.history("main")) == 8 * 25


def test_a_study_goes_on_where_it_was(url, store):
    tasks = store.tasks("main", "ada")
    assert tasks == design.plan(IDS, [], "ada", 0.1, 0)
    store.append("main", "ada", "q", [Mark(7, "real-like")])
    store.close()
    again = Store(url)
    assert again.begin("main", {"a": 2}) == {"a": 1}
    assert again.tasks("main", "ada") == tasks
    assert again.current("main", "ada")[7].label == "real-like"
    assert again.raters("main") == ["ada", "bob"]
    assert again.settings("other") is None
    again.close()


def test_sqlite_writes_through(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/deep/down/review.sqlite")
    with store._engine.connect() as connection:
        assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
        assert connection.scalar(sa.text("PRAGMA synchronous")) == 2  # FULL
    store.close()


def test_history_has_no_way_to_change(store):
    """The code of the store has no statement that changes or deletes a row."""
    assert not {"update", "delete"} & set(dir(store))
    text = (databases.pathlib.Path(__file__).parents[3] / "vrn/review/store.py").read_text()
    assert ".update(" not in text
    assert ".delete(" not in text


@pytest.mark.parametrize(
    "bad", ["nonsense", "sqlite://", "mysql://x/y", "postgresql+psycopg://u:secret@127.0.0.1:9/x"]
)
def test_a_database_that_cannot_be_opened_is_one_sentence(bad):
    with pytest.raises(UserError, match=r"review\.database") as told:
        Store(bad)
    assert "\n" not in str(told.value)
    assert "secret" not in str(told.value)


def test_a_file_that_is_no_database_is_told(tmp_path):
    (tmp_path / "x.sqlite").write_bytes(b"no database at all, but longer than a header" * 99)
    with pytest.raises(UserError, match=r"review\.database"):
        Store(f"sqlite:///{tmp_path}/x.sqlite")


def test_studies_refuse_other_settings_and_images_and_take_more_of_the_same(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/review.sqlite")
    reals = [f"r{i}" for i in range(9)]
    first = study.Settings(raters=("ada",), real_share=0.1, repeats=0.0)
    study.open_study(store, first, IDS, reals, pool="first")
    before = store.tasks("main", "ada")
    assert sum(task.real for task in before) == 7  # of 67
    with pytest.raises(UserError, match=r"repeats=0\.0, not 0\.5"):
        study.open_study(
            store, study.Settings(raters=("ada",), repeats=0.5), IDS, reals, pool="first"
        )
    with pytest.raises(UserError, match="pool='first', not 'second'"):
        study.open_study(store, first, IDS, reals, pool="second")
    with pytest.raises(UserError, match="other images"):
        study.open_study(store, first, IDS[1:], reals, pool="first")
    more = [*IDS, "s60", "s61"]
    grown = study.Settings(raters=("ada", "bob"), real_share=0.1, repeats=0.0)
    study.open_study(store, grown, more, reals, pool="first")
    after = store.tasks("main", "ada")
    assert after[: len(before)] == before
    assert {task.sample_id for task in after[len(before) :]} == {"s60", "s61"}
    assert {task.sample_id for task in store.tasks("main", "bob")} == {
        task.sample_id for task in after
    }
    store.close()


@pytest.mark.parametrize(
    "settings",
    [
        {"raters": ()},
        {"raters": ("ada", "ada")},
        {"raters": ("lead",)},
        {"raters": ("Ada Lovelace",)},
        {"name": "../x"},
        {"labels": "none"},
        {"real_share": 1.0},
        {"repeats": 1.5},
        {"images": -1},
    ],
)
def test_impossible_settings_name_the_flag(settings):
    with pytest.raises(UserError, match=r"--config\.review\."):
        study.Settings(**settings).validate()
