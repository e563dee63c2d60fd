"""Models that this scheduler brings to a node from another: how far they are, and their end."""

from __future__ import annotations

from dataclasses import dataclass

from potluck_proto.errors import HubError
from potluck_proto.v1 import scheduler_pb2 as pb
from potluck_proto.v1 import types_pb2 as types


@dataclass(eq=False, slots=True)
class Arrival:
    """A model on its way to a node, listed there beside what the node fetches itself."""

    download: types.Download
    """How far it is; its repository and variant stay what was asked for."""
    stopped: bool = False

    @classmethod
    def of(cls, repository: str, variant: str = "") -> Arrival:
        """Return one that has not begun."""
        return cls(types.Download(repository=repository, variant=variant))

    def is_called(self, repository: str, variant: str) -> bool:
        """Say whether somebody means this one; case does not matter."""
        asked = self.download.repository.lower(), self.download.variant.lower()
        return asked == (repository.lower(), variant.lower())

    def note(self, progress: types.Download) -> types.Download:
        """Take in how far it is, and return that. Raises `HubError` where it was stopped."""
        self.check()
        progress.repository = self.download.repository
        progress.variant = self.download.variant
        self.download = progress
        return progress

    def add_to(
        self,
        message: pb.PullModelResponse | pb.CopyModelResponse,
        event: types.Download | types.ModelDescription,
    ) -> None:
        """Put what a copy says into a message. Raises `HubError` where it was stopped."""
        if isinstance(event, types.ModelDescription):
            message.model.CopyFrom(event)
        else:
            message.download.CopyFrom(self.note(event))

    def check(self) -> None:
        """Raise `HubError` where it was stopped."""
        if self.stopped:
            raise HubError(
                f"The copy of {self.download.repository} was stopped. What came is kept for the "
                "next time; `potluck prune` deletes it."
            )
