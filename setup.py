"""Builds every `proxy/**/_*.pyx` as an extension of its own: a small module compiles in seconds, an umbrella does not.

Variants, by environment: PROXY_DEBUG=1 (assertions, bounds checks, counters), PROXY_ASAN=1 (AddressSanitizer + UBSan).
PROXY_NO_EXTENSIONS=1 leaves them out: for `pip install -e`, whose own build shares nothing with later in-place ones.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("PROXY_DEBUG") == "1"
ASAN = os.environ.get("PROXY_ASAN") == "1"
NO_EXTENSIONS = os.environ.get("PROXY_NO_EXTENSIONS") == "1"

cflags = [
    "-Wall",
    "-Wextra",
    "-Wno-unused-parameter",
    "-Wno-unused-function",
    "-Wno-cast-function-type",
    "-Wno-sign-compare",
    "-std=gnu11",
    "-fno-strict-aliasing",
]
ldflags: list[str] = []
macros: list[tuple[str, str | None]] = [("NPY_NO_DEPRECATED_API", None)]
if ASAN:
    cflags += ["-O1", "-g", "-fno-omit-frame-pointer"]
    cflags += ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
    ldflags += ["-fsanitize=address,undefined"]
elif DEBUG:
    cflags += ["-O1", "-g", "-UNDEBUG"]
else:
    cflags += ["-O2"]
if DEBUG or ASAN:
    macros.append(("PROXY_DEBUG", "1"))


def extension(path: Path) -> Extension:
    name = ".".join(path.with_suffix("").parts)
    # whoever cimports proxy.net._tls inline functions needs libssl as well
    libraries = ["ssl", "crypto"] if "proxy.net._tls" in path.read_text() or name == "proxy.net._tls" else []
    return Extension(
        name,
        [str(path)],
        extra_compile_args=cflags,
        extra_link_args=ldflags,
        define_macros=macros,
        libraries=libraries,
    )


setup(
    ext_modules=cythonize(
        [] if NO_EXTENSIONS else [extension(path) for path in sorted(Path("proxy").rglob("_*.pyx"))],
        language_level=3,
        compiler_directives={
            "boundscheck": True,
            "wraparound": False,
            "embedsignature": True,
            "freethreading_compatible": False,
        },
        nthreads=os.cpu_count() or 1,
    ),
)
