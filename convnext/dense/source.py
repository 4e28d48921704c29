"""What the sources of detection and segmentation have in common: their pictures are files."""

from __future__ import annotations


class FilePictures:
    """Pictures that are read as they are asked for: neither kept in memory nor drawn by formula."""

    @property
    def arrays(self) -> None:
        return None

    @property
    def drawn(self) -> bool:
        return False
