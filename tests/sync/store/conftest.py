import pytest

from segue.sync.store.leases import Lease
from segue.sync.store.store import Store

from .changes import TTL


@pytest.fixture
def lease(store: Store) -> Lease:
    return store.leases.acquire("d", TTL)
