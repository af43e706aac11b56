"""The server of a reader study, asked as browsers, other sites and fuzzers do."""

import os
import re
import signal
import stat
import uuid

import numpy as np
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from configs import digits
from data.errors import UserError
from launch.review import serving
from tests.launch import reviews
from vrn.review import access

FEW = settings(
    max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True,
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip
SECOND = 30  # s that an answer may take on a busy machine


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    return reviews.make(tmp_path_factory.mktemp("review"), dtype=np.uint16)


@pytest.fixture(scope="module")
def server(workdir):
    with reviews.here(workdir, raters=("ada", "bob")) as running:
        yield running


@pytest.fixture(scope="module")
def ada(server):
    return reviews.log_in(server, "ada")


def entries(*marks):
    return {"request": uuid.uuid4().hex, "entries": [{"place": p, "label": w} for p, w in marks]}


def post(server, who, body, **headers):
    session, csrf = who
    headers = {access.CSRF_HEADER: csrf} | headers
    return session.post(f"{server.url}/api/labels", json=body, headers=headers, timeout=SECOND)


def test_without_a_cookie_there_is_nothing(server):
    for path in (
        "/",
        "/api/queue",
        "/api/statistics",
        "/api/openapi.json",
        "/api/images/" + 32 * "0",
    ):
        assert requests.get(server.url + path, timeout=SECOND).status_code == 401
    answer = requests.post(f"{server.url}/api/labels", json=entries((0, "unsure")), timeout=SECOND)
    assert answer.status_code == 401


def test_a_wrong_token_or_cookie_opens_nothing(server):
    good = server.addresses["ada"].partition("token=")[2]
    for token in (good[:-1] + ("0" if good[-1] != "0" else "1"), good.replace("ada", "bob"), "ada",
                  ".", "lead." + good.partition(".")[2], "\N{SNOWMAN}.x"):  # fmt: skip
        answer = requests.get(server.url, params={"token": token}, timeout=SECOND)
        assert answer.status_code == 401
        assert access.COOKIE not in answer.cookies
        # A token is no cookie either.
        cookie = {"Cookie": f"{access.COOKIE}={good}"}
        assert (
            requests.get(f"{server.url}/api/queue", headers=cookie, timeout=SECOND).status_code
            == 401
        )


def test_the_token_becomes_a_cookie_and_leaves_the_address(server):
    answer = requests.get(server.addresses["ada"], allow_redirects=False, timeout=SECOND)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert server.addresses["ada"].partition("token=")[2] not in cookie


def test_every_answer_has_the_headers(server, ada):
    session, _ = ada
    for path in ("/", "/api/queue", "/nowhere", "/static/review.js", "/static/../server.py"):
        found = session.get(server.url + path, timeout=SECOND).headers
        for name, value in access.HEADERS.items():
            assert found[name] == value
        assert "server" not in found
    assert "unsafe" not in access.HEADERS["content-security-policy"]


def test_other_names_and_other_sites_are_refused(server, ada):
    session, _ = ada
    rebound = {"Host": f"evil.example:{server.port}"}
    assert session.get(server.url, headers=rebound, timeout=SECOND).status_code == 421
    body = entries((0, "unsure"))
    assert post(server, ada, body, Origin="https://evil.example").status_code == 403
    assert post(server, ada, body, Origin="null").status_code == 403
    assert post(server, ada, body, **{access.CSRF_HEADER: "0" * 64}).status_code == 403
    assert post(server, ada, body, Origin=server.url).status_code == 200


def test_what_is_said_is_checked_before_anything_is_saved(server, ada):
    for body, code in (
        (entries((10**6, "unsure")), 404),
        (entries((0, "unsure"), (10**6, "unsure")), 404),
        (entries((0, "perhaps")), 422),
        (entries((-1, "unsure")), 422),
        (entries((True, "unsure")), 422),
        (entries(), 422),
        ({"request": "../../etc/passwd", "entries": [{"place": 0, "label": "unsure"}]}, 422),
        (entries((0, "unsure")) | {"path": "/etc/passwd"}, 422),
    ):
        before = queue(server, ada)["tasks"]
        answer = post(server, ada, body)
        assert answer.status_code == code, answer.text
        assert queue(server, ada)["tasks"] == before
    session, csrf = ada
    big = session.post(
        f"{server.url}/api/labels", data=b"x" * (access.LARGEST_BODY + 1),
        headers={access.CSRF_HEADER: csrf}, timeout=SECOND,
    )  # fmt: skip
    assert big.status_code == 413
    chunks = session.post(
        f"{server.url}/api/labels", data=(b"x" * 65536 for _ in range(20)),
        headers={access.CSRF_HEADER: csrf}, timeout=SECOND,
    )  # fmt: skip
    assert chunks.status_code == 413


def queue(server, who):
    return who[0].get(f"{server.url}/api/queue", timeout=SECOND).json()


def test_the_queue_tells_nothing_of_where_an_image_is_from(server, ada, workdir):
    text = ada[0].get(f"{server.url}/api/queue", timeout=SECOND).text
    assert "real-0" not in text
    assert not any(str(one) in text for one in reviews.pool(workdir).ids)
    found = queue(server, ada)
    assert set(found["tasks"][0]) == {"place", "image", "label", "faults"}
    names = [task["image"] for task in found["tasks"]]
    assert len(set(names)) == 80 + 9  # a tenth of what is shown is real
    assert len(names) == 89 + 4  # and a twentieth is shown again


def test_pixels_arrive_as_they_are_stored(server, ada, workdir):
    pool = reviews.pool(workdir)
    found = queue(server, ada)
    form = found["form"]
    assert (form["bits"], form["height"], form["width"], form["channels"]) == (16, 16, 16, 1)
    stored = {pool.read_raw(np.array([row])).tobytes() for row in range(len(pool))}
    got = set()
    for task in found["tasks"]:
        answer = ada[0].get(f"{server.url}/api/images/{task['image']}", timeout=SECOND)
        got.add(answer.content)
    assert stored <= got
    assert ada[0].get(f"{server.url}/api/images/{'0' * 32}", timeout=SECOND).status_code == 404
    for odd in ("..%2f..%2fsecret", "%2e%2e", "A" * 32):
        answer = ada[0].get(f"{server.url}/api/images/{odd}", timeout=SECOND)
        assert answer.status_code in (404, 422)


def test_raters_see_no_statistics_and_the_lead_labels_nothing(server, ada):
    assert ada[0].get(f"{server.url}/api/statistics", timeout=SECOND).status_code == 403
    lead = reviews.log_in(server, "statistics")
    assert lead[0].get(f"{server.url}/api/queue", timeout=SECOND).status_code == 403
    assert post(server, lead, entries((0, "unsure"))).status_code == 403
    numbers = lead[0].get(f"{server.url}/api/statistics", timeout=SECOND).json()
    assert set(numbers["raters"]) == {"ada", "bob"}
    page = lead[0].get(server.url, timeout=SECOND)
    nonce = re.search(r'<style nonce="([\w-]+)">', page.text)[1]
    assert f"'nonce-{nonce}'" in page.headers["content-security-policy"]
    assert page.text.count("<script") == 0


def test_raters_do_not_meet(server, ada):
    bob = reviews.log_in(server, "bob")
    assert post(server, bob, entries((2, "real-like"))).status_code == 200
    marks = {task["place"]: task["label"] for task in queue(server, ada)["tasks"]}
    assert marks[2] is None
    # The word of one page is none of another's.
    assert post(server, (bob[0], ada[1]), entries((3, "real-like"))).status_code == 403


def test_the_secret_is_its_owners(workdir, server):
    mode = os.stat(workdir / "review" / "secret").st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("review", "words"),
    [
        ({"order": "best"}, "choose from random, active"),
        ({"rule": "loudest"}, "choose from majority, weighted"),
        ({"pool": "third"}, "choose from first, second"),
        ({"pool": "second"}, "launch.generate --pool=second"),
        ({"raters": ("Dr. Who",)}, "no person's name"),
        ({"repeats": 0.5}, "was begun with repeats=0.05, not 0.5"),
        ({"order": "active"}, "launch.train_vrn"),
    ],
)
def test_bad_settings_are_one_sentence(server, workdir, review, words):
    config = digits.get_config()
    config.review.update(review)
    with pytest.raises(UserError, match=re.escape(words)):
        serving.service(config, workdir, "127.0.0.1")


def test_a_port_in_use_is_one_sentence(server, workdir):
    with pytest.raises(UserError, match="give another --port"):
        serving.serve(digits.get_config(), workdir, "127.0.0.1", server.port)


def test_no_request_breaks_the_server_or_makes_it_talk(server, ada, workdir):
    """Schemathesis asks whatever the schema allows, and what it forbids."""
    session, csrf = ada
    raw = session.get(f"{server.url}/api/openapi.json", timeout=SECOND).json()
    operations = [one.ok() for one in schemathesis.openapi.from_dict(raw).get_all_operations()]
    assert len(operations) == 4
    cookie = session.cookies.get_dict()
    asked = 0
    leaks = re.compile(
        "|".join(["Traceback", "sqlalchemy", "site-packages", re.escape(str(workdir)), "real-\\d"])
    )

    def ask(case):
        nonlocal asked
        asked += 1
        case.cookies = dict(cookie)
        if asked % 4:  # else the word is whatever was drawn
            case.headers[access.CSRF_HEADER] = csrf
        answer = case.call(base_url=server.url, timeout=SECOND)
        assert answer.status_code < 500, answer.text
        assert not leaks.search(answer.text)
        case.validate_response(
            answer,
            checks=[
                schemathesis.checks.not_a_server_error,
                schemathesis.checks.status_code_conformance,
                schemathesis.checks.response_schema_conformance,
            ],
        )

    for operation in operations:
        for mode in schemathesis.GenerationMode:
            cases = operation.as_strategy(generation_mode=mode)
            try:
                FEW(given(case=cases)(ask))()
            except Unsatisfiable:
                assert mode is schemathesis.GenerationMode.NEGATIVE  # nothing to get wrong in it
    assert asked > 100
    assert session.get(f"{server.url}/api/queue", timeout=SECOND).status_code == 200


def test_the_program_ends_with_the_signal_and_goes_on_where_it_was(tmp_path):
    workdir = reviews.make(tmp_path, count=20)
    with reviews.serving(workdir) as server:
        rater = reviews.log_in(server, "rater-1")
        assert post(server, rater, entries((4, "real-like"))).json() == {"saved": 1}
        assert server.log.count("token=") == 2  # printed once; requests are not logged
        assert server.stop(signal.SIGINT) == 0
    with reviews.here(workdir) as again:
        # The page and cookie of before the restart are good still.
        marks = {t["place"]: t["label"] for t in queue(again, rater)["tasks"]}
        assert marks[4] == "real-like"
        assert post(again, rater, entries((5, "unsure"))).status_code == 200
