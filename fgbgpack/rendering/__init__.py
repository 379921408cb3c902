"""Sample pictures drawn by ourselves: rooms with their true depth, and figures with soft alpha.

They stand in for photographs of malls and hotel lobbies and for cut-out people, so that everything can be
tried with no download. Picture ``i`` of a seed is a pure function of the seed and ``i``. Positions are in
metres: x to the right, y up from the floor, z into the room.
"""

from fgbgpack.rendering.camera import Camera
from fgbgpack.rendering.render import Scene, render_figure, render_portrait, render_scene
from fgbgpack.rendering.samples import write_samples

__all__ = ["Camera", "Scene", "render_figure", "render_portrait", "render_scene", "write_samples"]
