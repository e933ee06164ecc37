"""What runs in the containers: services of the bench's own beside those of the lab."""

from __future__ import annotations

from pathlib import Path

from hoplab.services import Service, find_service

_FILES = Path(__file__).with_name("service_files")

VISION = Service(
    "bench-vision",
    ("python3-minimal", "libpython3-stdlib"),
    ("/usr/local/bin/vision-service",),
    8080,
    files={"/usr/local/bin/vision-service": str(_FILES / "vision-service")},
    wheels=("dlib-bin==20.0.1.post1", "numpy==2.4.6"),
    sources=("face_recognition_models==0.3.0",),
)
BUSYBOX = Service(
    "bench-busybox",
    ("busybox",),
    ("/usr/local/bin/busybox-counter",),
    8080,
    files={"/usr/local/bin/busybox-counter": str(_FILES / "busybox-counter")},
)
REDIS = find_service("redis")
POSTGRES = find_service("postgres")
COUNTER = find_service("python")
