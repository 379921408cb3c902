"""What a dataset says of the pictures that it was made of."""

from __future__ import annotations

from dataclasses import dataclass

#: What is known of where a picture is from.
CREDIT_FIELDS = ("license", "author", "url")


@dataclass(frozen=True, slots=True)
class PictureCredit:
    """What is stated of a picture that was imported: an SPDX identifier, address or sentence; who made it;
    where it is from. ``None`` where nothing is.
    """

    license: str | None = None
    author: str | None = None
    url: str | None = None


@dataclass(frozen=True, eq=False)
class SourceInfo:
    """One input picture: a foreground with its mask file if it has one, or a background; with the mask of its
    floor, its horizon, as a share of its height from the top, its focal length in pixels of the picture, and
    the file of its depth, where these are given and of use.

    Two are equal when their names (of files, without folder), SHA-256 digests (64 hexadecimal digits),
    horizons, focal lengths and stated categories are, whichever class they are of: what a dataset remembers
    of a picture equals the picture that is found again. Licence, author, address and category are as
    ``sources.csv`` states them; the first three are not compared.
    """

    name: str
    sha256: str
    mask_name: str | None = None
    mask_sha256: str | None = None
    license: str | None = None
    author: str | None = None
    url: str | None = None
    horizon: float | None = None
    focal_length: float | None = None
    depth_name: str | None = None
    depth_sha256: str | None = None
    stated_category: str | None = None

    @property
    def _identity(self) -> tuple[str | float | None, ...]:
        files = self.mask_name, self.mask_sha256, self.depth_name, self.depth_sha256
        return self.name, self.sha256, *files, self.horizon, self.focal_length, self.stated_category

    def __eq__(self, other: object) -> bool:
        return self._identity == other._identity if isinstance(other, SourceInfo) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def category(self) -> str:
        """What a foreground is: as it is stated, else the folder that its name begins with, else empty."""
        return self.stated_category or self.name.rpartition("/")[0]

    @property
    def word(self) -> int:
        """The first 32 bits of the digest, which placements identify the picture by."""
        return int(self.sha256[:8], 16)

    @property
    def has_credit(self) -> bool:
        """Whether anything is stated of licence, author or address."""
        return not self.license is self.author is self.url is None


@dataclass(frozen=True)
class SourcesInfo:
    """The pictures of a dataset, in the order of the indices in ``/background`` and ``/foreground``."""

    backgrounds: tuple[SourceInfo, ...]
    foregrounds: tuple[SourceInfo, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories of the foregrounds, in the order of their numbers; one without a name where there
        are none.
        """
        return tuple(dict.fromkeys(source.category for source in self.foregrounds))

    @property
    def category_numbers(self) -> tuple[int, ...]:
        """The number of the category of each foreground."""
        number_of = {name: number for number, name in enumerate(self.categories)}
        return tuple(number_of[source.category] for source in self.foregrounds)
