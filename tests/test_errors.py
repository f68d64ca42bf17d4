"""Errors stay what they are wherever they are handed."""

import copy
import pickle

import pytest

from leyden.asgi import Unprocessable
from leyden.errors import BadInput, LeydenError, RateLimited, UpstreamTimeout

ERRORS = [
    LeydenError("Why"),
    BadInput("Why", "Do this"),
    RateLimited("Why", "Wait", 3.5),
    UpstreamTimeout("Why", "Wait", "idle"),
    Unprocessable("Why", [{"loc": ["body"]}]),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_an_error_comes_out_of_another_process_as_it_was(error: LeydenError, protocol: int) -> None:
    for again in (pickle.loads(pickle.dumps(error, protocol)), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert (vars(again), again.args, str(again)) == (vars(error), error.args, "Why")
