"""What all tests share: an isolated house for each test, and an order that starts the long waits first."""

from collections.abc import Iterator

import pytest
from house import House


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "long: waits in real time, so it is started before all others")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture
def house() -> Iterator[House]:
    """An isolated home with its own GnuPG, broker, settings and phone; every process in it is ended afterwards."""
    house = House()
    yield house
    house.clear()
