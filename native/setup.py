"""Builds one wheel for every Python from 3.11 on: the decoder keeps to the stable ABI."""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "leyden_native._decoder",
            sources=[f"src/{name}.c" for name in ("module", "wire", "layouts", "records", "json")],
            depends=["src/native.h", "src/layouts.h"],
            extra_compile_args=["-O3"],
            py_limited_api=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
