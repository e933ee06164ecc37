"""What a program would miss on another processor."""

from __future__ import annotations

from streamhop.engine import cpu_features
from streamhop.engine.cpu_features import FEATURES_MAX, features_in, missing, more_state, own_features

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
flags\t\t: fpu vme sse sse2 avx avx2 erms avx512f smep
bugs\t\t: spectre_v1

processor\t: 1
flags\t\t: fpu
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd aes sve\nCPU implementer\t: 0x41\n"


def test_the_first_processors_features_are_read() -> None:
    assert features_in(X86) == ("fpu", "vme", "sse", "sse2", "avx", "avx2", "erms", "avx512f", "smep")
    assert features_in(ARM) == ("fp", "asimd", "aes", "sve")
    assert features_in("processor: 0\n") == ()
    assert features_in("flags : a\x1b[2J b! " + "c" * 100) == ()
    assert len(features_in("flags: " + " ".join(f"f{n}" for n in range(5000)))) == FEATURES_MAX


def test_what_programs_use_is_missed_and_nothing_else() -> None:
    source = features_in(X86)
    assert missing(source, ("fpu", "sse", "sse2", "avx", "avx2"), "x86_64") == ["avx512f"]
    # Slower without erms, and smep is the kernel's own affair: a refusal would be a false one.
    assert missing(source, ("fpu", "sse", "sse2", "avx", "avx2", "avx512f"), "x86_64") == []
    assert missing(source, source, "x86_64") == []


def test_a_newer_processor_is_no_obstacle_but_has_more_to_save() -> None:
    source, target = ("fpu", "avx"), ("fpu", "avx", "avx512f", "ospke")
    assert missing(source, target, "x86_64") == []
    assert more_state(source, target, "x86_64") == ["avx512", "pku"]
    assert more_state(target, source, "x86_64") == []
    assert more_state(("fp",), ("fp", "sve"), "aarch64") == []


def test_elsewhere_every_feature_counts() -> None:
    assert missing(("fp", "sve"), ("fp",), "aarch64") == ["sve"]


def test_where_one_is_not_known_nothing_is_missing() -> None:
    assert (
        missing((), ("fpu",), "x86_64") == missing(("fpu",), (), "x86_64") == more_state((), ("avx",), "x86_64") == []
    )


def test_this_host_has_some(monkeypatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    assert own_features()
    monkeypatch.setattr(cpu_features, "CPUINFO", tmp_path / "missing")
    assert own_features() == ()
