"""The S3 file system: its configuration, what it repeats, and how it words what stays wrong."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from schemas.errors import StoreError
from tests.deploy.s3.store import FAILURES, KEY, SECRET, Store
from transforms.s3 import S3Store
from transforms.storage import filesystem, get, names, put, put_new, remove

pytestmark = pytest.mark.s3


@pytest.fixture
def root(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder of the store, which this process is configured for."""
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    S3Store.clear_instance_cache()
    yield store.url("unit")
    store.proxy.fails, store.proxy.ways = 0.0, FAILURES
    remove(store.url("unit"))
    S3Store.clear_instance_cache()


def test_one_variable_sets_the_region_too(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    fs, _ = filesystem(root)
    assert isinstance(fs, S3Store)
    assert fs.s3.meta.region_name == "eu-west-1"
    assert not fs.dircache.use_listings_cache


@pytest.mark.parametrize("way", FAILURES)
def test_a_third_of_the_requests_may_fail(root: str, store: Store, way: str) -> None:
    """Also a write that was done and whose answer was lost is this caller's."""
    store.proxy.fails, store.proxy.ways = 0.33, (way,)
    before = store.proxy.failed[way]

    def use(number: int) -> None:
        put(f"{root}/{number}", b"x" * 1000)
        assert put_new(f"{root}/new-{number}", b"%d" % number)
        assert not put_new(f"{root}/new-{number}", b"other")
        assert get(f"{root}/{number}") == b"x" * 1000
        assert get(f"{root}/{number}", 10, 20) == b"x" * 10

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(use, range(12)))
    assert len(names(root)) == 24
    assert store.proxy.failed[way] > before


def test_a_small_object_is_one_request_to_write_and_one_to_read(root: str, store: Store) -> None:
    put(f"{root}/a", b"x")  # the first one
    store.proxy.counts.clear()
    put(f"{root}/a", b"x" * 100)
    assert store.proxy.kinds() == {"PUT": 1}
    get(f"{root}/a")
    get(f"{root}/a", 1, 3)
    put_new(f"{root}/b", b"x")
    assert store.proxy.kinds() == {"PUT": 2, "GET": 2}
    remove(root)
    assert store.proxy.kinds() == {"PUT": 2, "GET": 2, "LIST": 1, "DELETE": 1}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("AWS_ACCESS_KEY_ID", "someone-else", "AWS_ACCESS_KEY_ID"),
        ("AWS_SECRET_ACCESS_KEY", "a-wrong-secret", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_wrong_credentials_are_named_and_not_shown(
    root: str, name: str, value: str, words: str
) -> None:
    for act in (get, names, lambda url: put(url, b"x"), lambda url: put_new(url, b"x")):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(name, value)
            S3Store.clear_instance_cache()
            with pytest.raises(StoreError, match=words) as caught:
                act(f"{root}/x")
        S3Store.clear_instance_cache()
        for secret in (value, KEY, SECRET):
            assert secret not in str(caught.value)


def test_a_missing_bucket_is_not_a_missing_object(root: str) -> None:
    with pytest.raises(FileNotFoundError):
        get(f"{root}/none")
    assert names(f"{root}/none") == []
    for act in (get, names, lambda url: put(url, b"x")):
        with pytest.raises(StoreError, match=r"no-such-bucket.*no such bucket"):
            act("s3://no-such-bucket/x")
