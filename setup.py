"""Packaging: the package, its two Twisted plugins and the command."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="rpcstream",
    version="0.1.0",
    description="RPC calls and bulk data streams over one TLS connection, for Twisted; the wire is libvirt's",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    # twisted/plugins has no __init__.py: Twisted's plugin path finds it beside its own.
    packages=[*find_packages(include=["rpcstream", "rpcstream.*"]), "twisted.plugins"],
    package_data={"rpcstream": ["py.typed"]},
    install_requires=[
        "twisted[tls]>=26.10",
        "pyopenssl>=26",
        "service-identity>=26",
        "cryptography>=45",
        "construct>=2.10.70,<2.11",
        "blake3>=1",
        "lark>=1.2",
        "attrs>=23.2",
        "click>=8.1",
        "rich>=13",
        "scramp>=1.4",
        "defusedxml>=0.7",
        "idna>=3",
        "zope.interface>=6",
    ],
    extras_require={
        "test": ["hypothesis>=6.100"],
        "plot": ["matplotlib>=3.8"],
        "docs": ["sphinx>=8", "furo>=2025.7", "pydoctor>=25.4"],
    },
    entry_points={"console_scripts": ["rpcstream = rpcstream.cli.main:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Topic :: System :: Networking",
        "Typing :: Typed",
    ],
)
