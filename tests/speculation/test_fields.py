"""Errors say the same in another process."""

from __future__ import annotations

import pickle

import pytest

from paceline.errors import UnsupportedParameter
from paceline.speculation.fields import FieldError, FieldErrors


@pytest.mark.parametrize(
    "error",
    [
        FieldError("replicas", -1, "0 or more"),
        UnsupportedParameter("best_of", 2, "1"),
        FieldErrors([FieldError("a", 1, "2"), FieldError("b", "x", "a number")]),
    ],
)
def test_an_error_survives_pickling(error: FieldError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert [str(each) for each in (copy, *copy.errors)] == [str(each) for each in (error, *error.errors)]
    assert (copy.field, copy.value, copy.expected) == (error.field, error.value, error.expected)
