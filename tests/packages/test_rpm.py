"""The spec for Fedora and Qubes OS: rpm reads it and builds with it.

Debian has rpm, but not Fedora's macros for Python and systemd. `_MACROS` are short ones that do
the same with Debian's tools. So this tests the spec, and not Fedora's macros.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import domindex
from tests.packages.system import System
from tools import packages

_MACROS = r"""
%_unitdir /usr/lib/systemd/system
%python3_sitelib /usr/lib/python3/dist-packages
%pyproject_files %{_builddir}/pyproject-files
%pyproject_buildrequires echo python3-hatchling
%pyproject_wheel python3 -m build --no-isolation --skip-dependency-check --wheel --outdir whl
%pyproject_install DEB_PYTHON_INSTALL_LAYOUT=deb python3 -m installer --destdir %{buildroot} whl/*
%_ours %{buildroot}%{python3_sitelib}
%pyproject_save_files(lL) find %{_ours} -type f | sed 's|^%{buildroot}||' > %{pyproject_files}
%pyproject_check_import(e:t) (cd /; PYTHONPATH=%{_ours} python3 -c 'import domindex.cli')
%systemd_post true
%systemd_preun true
%systemd_postun_with_restart true
"""

_BUILD = """
mkdir -p /root/rpmbuild/SOURCES
cp *.tar.gz /root/rpmbuild/SOURCES
cp macros /root/.rpmmacros
rpmspec -P domindex.spec > /dev/null
rpmbuild -bb --nodeps domindex.spec
for rpm in /root/rpmbuild/RPMS/noarch/*.rpm; do rpm -qp --requires --list $rpm; done
"""


@pytest.mark.timeout(900)
def test_it_builds(dist: Path, workshop: System, tmp_path: Path) -> None:
    """Everything that the wheel holds is in one of two rpms, or rpmbuild would refuse."""
    shutil.copy(packages.sdist_of(dist), tmp_path)
    shutil.copy(packages.PROJECT / "packaging/domindex.spec", tmp_path)
    (tmp_path / "macros").write_text(_MACROS)
    done = workshop.run(_BUILD, tmp_path)
    assert done.returncode == 0, done.stdout
    for path in (
        "/usr/bin/domindex",
        "/usr/lib/systemd/system/domindex-exporter.service",
        "/usr/lib/systemd/system/domindex-publish.service",
        "/usr/lib/python3/dist-packages/domindex/py.typed",
        "/usr/share/bash-completion/completions/domindex",
        "/usr/share/man/man1/domindex.1.gz",
        "/usr/share/zsh/site-functions/_domindex",
    ):
        assert path in done.stdout.splitlines(), done.stdout
    assert f"python3-domindex = {domindex.__version__}-1" in done.stdout.splitlines(), done.stdout
