from __future__ import annotations

import pytest

from service.domain.keys import NewKey, make_key

# A check that fails there shows its values, as one in a test module does.
pytest.register_assert_rewrite("tests.support.edge")


@pytest.fixture
def key() -> NewKey:
    return make_key()
