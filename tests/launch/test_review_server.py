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
from launch.review import opening, serving
from tests.launch import reviews
from tests.vrn.review import databases
from vrn.review import access

FEW = settings(
    max_examples=40, deadline=None, phases=[Phase.explicit, Phase.generate], derandomize=True,
    suppress_health_check=list(HealthCheck), database=None,
)  # fmt: skip


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


def get(url, **options):
    return requests.get(url, timeout=60, **options)


def test_without_a_cookie_there_is_nothing(server):
    image = "ada/api/images/" + 32 * "0"
    for path in ("", "ada/", "lead/", "eve/", "ada/api/queue", "lead/api/statistics",
                 "ada/api/openapi.json", image):  # fmt: skip
        assert get(f"{server.url}/{path}").status_code == 401
    answer = requests.post(f"{server.url}/ada/api/labels", json=entries((0, "unsure")), timeout=60)
    assert answer.status_code == 401


def test_a_wrong_token_or_cookie_opens_nothing(server):
    keys = {who: server.addresses[who].partition("token=")[2] for who in ("ada", "bob")}
    good = keys["ada"]
    for token in (
        good[:-1] + ("0" if good[-1] != "0" else "1"),
        keys["bob"],
        "ada",
        ".",
        "\N{SNOWMAN}",
    ):
        answer = get(f"{server.url}/ada/", params={"token": token}, allow_redirects=False)
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
    name = next(iter(reviews.log_in(server, "ada").session.cookies)).name
    for cookie in (good, "", "\xb2"):  # a token is no cookie
        headers = {"Cookie": f"{name}={cookie}".encode("latin-1")}
        assert get(f"{server.url}/ada/api/queue", headers=headers).status_code == 401


def test_the_token_becomes_a_cookie_of_that_rater_and_leaves_the_address(server, ada):
    answer = get(server.addresses["ada"], allow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/ada/"
    cookie = answer.headers["set-cookie"].lower()
    for word in ("httponly", "samesite=strict", "path=/ada/"):
        assert word in cookie
    assert server.addresses["ada"].partition("token=")[2] not in cookie
    # Nobody else is opened by it, even sent where a browser would not send it.
    headers = {"Cookie": answer.headers["set-cookie"].partition(";")[0]}
    assert get(f"{server.url}/ada/api/queue", headers=headers).status_code == 200
    for who in ("bob", "lead"):
        assert get(f"{server.url}/{who}/", headers=headers).status_code == 401


def test_every_answer_has_the_headers(server, ada):
    for path in ("", "api/queue", "nowhere", "../static/review.js", "../static/../server.py"):
        found = ada.get(path).headers
        for name, value in access.HEADERS.items():
            assert found[name] == value
        assert "server" not in found
    assert "unsafe" not in access.HEADERS["content-security-policy"]


def test_other_names_and_other_sites_are_refused(server, ada):
    assert ada.get(headers={"Host": f"evil.example:{server.port}"}).status_code == 421
    body = entries((0, "unsure"))
    assert ada.post(body, Origin="https://evil.example").status_code == 403
    assert ada.post(body, Origin=f"http://127.0.0.1:{server.port + 1}").status_code == 403
    assert ada.post(body, Origin="null").status_code == 403
    assert ada.post(body, **{access.CSRF_HEADER: "0" * 64}).status_code == 403
    assert ada.post(body, Origin=server.url).status_code == 200


def test_what_is_said_is_checked_before_anything_is_saved(ada):
    for body, code in (
        (entries((10**6, "unsure")), 404),
        (entries((0, "unsure"), (10**6, "unsure")), 404),
        (entries((0, "perhaps")), 422),
        (entries((-1, "unsure")), 422),
        (entries((10**400, "unsure")), 422),
        (entries((True, "unsure")), 422),
        (entries(), 422),
        ({"request": "../../etc/passwd", "entries": [{"place": 0, "label": "unsure"}]}, 422),
        (entries((0, "unsure")) | {"path": "/etc/passwd"}, 422),
    ):
        before = ada.queue()["tasks"]
        answer = ada.post(body)
        assert answer.status_code == code, answer.text
        assert ada.queue()["tasks"] == before


ENTRY = '{"request": "%s", "entries": [{"place": 0, "label": "unsure", %s}]}'


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[" * 900_000, 400),
        (b"\xff\xfe", 422),
        (ENTRY % (32 * "0", '"seconds": NaN'), 422),
        (ENTRY % (32 * "0", '"seconds": 1e999'), 422),
        (ENTRY % (32 * "0", '"faults": ["\\ud800"]'), 422),
        (ENTRY % (32 * "0", '"faults": ["\\u0000"]'), 422),
        (b"x" * (access.LARGEST_BODY + 1), 413),
    ],
)
def test_bodies_that_are_made_to_break_something(ada, body, code):
    body = body.encode() if isinstance(body, str) else body
    headers = {access.CSRF_HEADER: ada.csrf, "content-type": "application/json"}
    answer = ada.session.post(f"{ada.url}api/labels", data=body, headers=headers, timeout=60)
    assert answer.status_code == code, answer.text
    # The same without saying how long it is.
    pieces = (body[start : start + 65536] for start in range(0, len(body), 65536))
    answer = ada.session.post(f"{ada.url}api/labels", data=pieces, headers=headers, timeout=60)
    assert answer.status_code == code


def test_the_queue_tells_nothing_of_where_an_image_is_from(ada, workdir):
    text = ada.get("api/queue").text
    assert "real-0" not in text
    assert not any(str(one) in text for one in reviews.pool(workdir).ids)
    found = ada.queue()
    assert set(found["tasks"][0]) == {"place", "image", "label", "faults"}
    names = [task["image"] for task in found["tasks"]]
    assert len(set(names)) == 80 + 9  # a tenth of what is shown is real
    assert len(names) == 89 + 4  # and a twentieth is shown again


def test_pixels_arrive_as_they_are_stored(ada, workdir):
    pool = reviews.pool(workdir)
    found = ada.queue()
    form = found["form"]
    assert (form["bits"], form["height"], form["width"], form["channels"]) == (16, 16, 16, 1)
    stored = {pool.read_raw(np.array([row])).tobytes() for row in range(len(pool))}
    assert stored <= {ada.get(f"api/images/{task['image']}").content for task in found["tasks"]}
    assert ada.get(f"api/images/{'0' * 32}").status_code == 404
    for odd in ("..%2f..%2fsecret", "%2e%2e", "A" * 32):
        assert ada.get(f"api/images/{odd}").status_code in (404, 422)


def test_active_order_asks_first_what_the_vrn_is_least_certain_of(tmp_path, monkeypatch):
    workdir = reviews.make(tmp_path, count=30)
    margin = {str(one): float(i) for i, one in enumerate(reviews.pool(workdir).ids[::-1])}
    monkeypatch.setattr(opening, "uncertainty", lambda *_: margin)
    with reviews.here(workdir, order="active") as server:
        rater = reviews.log_in(server, "rater-1")
        tasks = server.service.study.store.tasks("main", "rater-1")

        def asked():
            found = rater.queue()["tasks"]
            left = [tasks[task["place"]] for task in found if task["label"] is None]
            return [one.sample_id for one in left if not one.real and not one.repeat]

        ranked = sorted(margin, key=margin.get)
        assert asked() == ranked
        first = next(i for i, one in enumerate(tasks) if one.sample_id == ranked[0])
        rater.post(entries((first, "unsure")))
        assert asked() == ranked[1:]
        assert rater.queue()["tasks"][0]["place"] == first  # what was said comes first


def test_raters_see_no_statistics_and_the_lead_labels_nothing(server, ada):
    assert ada.get("api/statistics").status_code == 403
    lead = reviews.log_in(server, "statistics")
    assert lead.get("api/queue").status_code == 403
    assert lead.post(entries((0, "unsure"))).status_code == 403
    assert set(lead.get("api/statistics").json()["raters"]) == {"ada", "bob"}
    page = lead.get()
    nonce = re.search(r'<style nonce="([\w-]+)">', page.text)[1]
    assert f"'nonce-{nonce}'" in page.headers["content-security-policy"]
    assert page.text.count("<script") == 0


def test_raters_do_not_meet(server, ada):
    bob = reviews.log_in(server, "bob")
    assert bob.post(entries((2, "real-like"))).status_code == 200
    assert {task["place"]: task["label"] for task in ada.queue()["tasks"]}[2] is None
    # The word of one page is none of another's.
    assert bob.post(entries((3, "real-like")), **{access.CSRF_HEADER: ada.csrf}).status_code == 403


def test_the_secret_is_its_owners(workdir, server):
    assert stat.S_IMODE(os.stat(workdir / "review" / "secret").st_mode) == 0o600


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
    operations = [
        one.ok()
        for one in schemathesis.openapi.from_dict(ada.get("api/openapi.json").json())
        .get_all_operations()
    ]  # fmt: skip
    assert len(operations) == 4
    cookies = ada.session.cookies.get_dict()
    asked, codes = 0, set()
    leaks = re.compile(
        "|".join(["Traceback", "sqlalchemy", "site-packages", re.escape(str(workdir)), "real-\\d"])
    )

    def ask(case):
        nonlocal asked
        asked += 1
        case.cookies = dict(cookies)
        if asked % 4:  # else who asks, and the word of the page, is whatever was drawn
            case.path_parameters["who"] = "ada"
            case.headers[access.CSRF_HEADER] = ada.csrf
        answer = case.call(base_url=server.url, timeout=60)
        codes.add(answer.status_code)
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
    assert {200, 401, 403, 404, 422} <= codes
    assert ada.get("api/queue").status_code == 200


def test_the_program_ends_with_the_signal_and_goes_on_where_it_was(tmp_path):
    workdir = reviews.make(tmp_path, count=20)
    with reviews.serving(workdir) as server:
        rater = reviews.log_in(server, "rater-1")
        assert rater.post(entries((4, "real-like"))).json() == {"saved": 1}
        assert server.log.count("token=") == 2  # printed once; requests are not logged
        assert server.stop(signal.SIGINT) == 0
    with reviews.here(workdir) as again:
        # The page and cookie of before the restart are good still.
        page = reviews.Person(rater.session, rater.csrf, f"{again.url}/rater-1/")
        assert {t["place"]: t["label"] for t in page.queue()["tasks"]}[4] == "real-like"
        assert page.post(entries((5, "unsure"))).status_code == 200


def test_a_study_in_postgresql_is_served_alike(tmp_path):
    workdir = reviews.make(tmp_path, count=20)
    with databases.postgres() as url, reviews.here(workdir, database=url) as server:
        rater = reviews.log_in(server, "rater-1")
        body = entries((4, "real-like"), (5, "skipped"))
        assert rater.post(body).json() == rater.post(body).json() == {"saved": 2}
        assert rater.post(entries((4, None))).status_code == 200
        server.stop()
        server.start()
        found = {t["place"]: t["label"] for t in rater.queue()["tasks"]}
        assert found[4] is None
        assert found[5] == "skipped"
        assert len(server.service.study.store.history("main")) == 3
    assert not (workdir / "review" / "review.sqlite").exists()
