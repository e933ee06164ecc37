"""The images of the container's processes, as a peer sent them: what of their claims this host lets CRIU act upon.

CRIU restores as root, and believes its images: capabilities, namespaces, mounts and cgroups are as they say, not as the
container's configuration says. So they are compared with that before the restore (:mod:`.admission`).
"""

from .admission import ImagesRefusedError, admit_images, check_images
from .admitted import Admitted
from .sockets import needs_network

__all__ = ["Admitted", "ImagesRefusedError", "admit_images", "check_images", "needs_network"]
