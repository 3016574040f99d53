"""What a verifier's refusals are to a client."""

from __future__ import annotations

from paceline.errors import (
    Aborted,
    DataLoss,
    FailedPrecondition,
    NotFound,
    PacelineError,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
)
from paceline.messages import Rejection, Status
from paceline.speculation.fields import FieldError

_REFUSALS: dict[Status, type[PacelineError]] = {
    Status.NOT_FOUND: NotFound,
    Status.PERMISSION_DENIED: PermissionDenied,
    Status.RESOURCE_EXHAUSTED: ResourceExhausted,
    Status.FAILED_PRECONDITION: FailedPrecondition,
    Status.ABORTED: Aborted,
    Status.DATA_LOSS: DataLoss,
    Status.UNAVAILABLE: Unavailable,
}


class RefusedRequest(FieldError, PacelineError):
    """A verifier refused a request for one of its fields; the message is the verifier's."""

    def __init__(self, detail: str) -> None:
        ValueError.__init__(self, detail)
        self.field, self.value, self.expected = "request", "", detail


def refusal(rejection: Rejection) -> Exception:
    """The error that says the same."""
    if rejection.status is Status.INVALID_ARGUMENT:
        return RefusedRequest(rejection.detail)
    return _REFUSALS.get(rejection.status, PacelineError)(rejection.detail)
