#!/usr/bin/env bash
# make setup: from a bare Debian, Ubuntu or Amazon Linux with python3, git and make to .venv/bin/sluiceway.
#
#   1. installs what is missing of: C compiler, Python headers and venv, OpenSSL headers and command, PostgreSQL (server,
#      psql, pgbench; for tests, demo and benchmark). With apt or dnf, as root or through sudo; asks nobody; says what it does.
#   2. makes .venv with the newest suitable Python (3.11 or later; $PYTHON overrides)
#   3. installs the dependencies from PyPI and builds the extensions in place
#
# Done again, it does only what changed. EXTRAS=test,lint (default: test) chooses what beside the proxy itself is installed.
# SLUICEWAY_NO_INSTALL=1: install no system packages, only say which are missing.
set -euo pipefail
cd "$(dirname "$0")/.."
extras=${EXTRAS:-test}
venv=.venv
stamp=$venv/.setup-$extras

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# 1. what is missing

suitable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
find_python() {
    local p
    for p in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$p" >/dev/null && suitable "$p"; then command -v "$p"; return; fi
    done
}
has_headers() { "$1" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))'; }
has_venv() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
has_openssl() { printf '#include <openssl/ssl.h>\n' | "${CC:-cc}" -E -x c - >/dev/null 2>&1; }
has_postgres() {
    [ -n "${PG_BIN:-}" ] || command -v initdb >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ||
        compgen -G '/usr/pgsql-*/bin/initdb' >/dev/null
}
has_pgbench() {
    command -v pgbench >/dev/null || [ -x "${PG_BIN:-}/pgbench" ] || compgen -G '/usr/lib/postgresql/*/bin/pgbench' >/dev/null ||
        compgen -G '/usr/pgsql-*/bin/pgbench' >/dev/null
}

missing() {  # names of what is missing, one per line
    local python; python=$(find_python)
    if [ -z "$python" ]; then echo python
    else
        has_venv "$python" || echo venv
        has_headers "$python" || echo headers
    fi
    command -v "${CC:-cc}" >/dev/null || echo compiler
    has_openssl || echo libssl
    command -v openssl >/dev/null || echo openssl
    has_postgres || echo postgresql
    has_pgbench || echo pgbench
}

# the packages for one missing thing; $version is the suitable Python's own ("3.12"), empty when there is none
apt_packages() {
    case $1 in
        python) echo python3 python3-dev python3-venv ;;
        venv) apt-cache show "python$version-venv" >/dev/null 2>&1 && echo "python$version-venv" || echo python3-venv ;;
        headers) apt-cache show "python$version-dev" >/dev/null 2>&1 && echo "python$version-dev" || echo python3-dev ;;
        compiler) echo gcc libc6-dev ;;
        libssl) echo libssl-dev gcc libc6-dev ;;
        openssl) echo openssl ;;
        postgresql) echo postgresql ;;
        pgbench) echo postgresql postgresql-contrib ;;
    esac
}
dnf_packages() {
    case $1 in
        python) echo python3.11 python3.11-devel python3.11-pip ;;
        venv) echo "python$version" ;;
        headers) echo "python$version-devel" ;;
        compiler) echo gcc glibc-devel ;;
        libssl) echo openssl-devel gcc glibc-devel ;;
        openssl) echo openssl ;;
        postgresql) if dnf -q info postgresql15-server >/dev/null 2>&1; then echo postgresql15-server; else echo postgresql-server; fi ;;
        pgbench) if dnf -q info postgresql15-contrib >/dev/null 2>&1; then echo postgresql15-contrib; else echo postgresql-contrib; fi ;;
    esac
}

install_missing() {
    local things packages manager python version="" root=()
    things=$(missing)
    [ -n "$things" ] || { say "compiler, Python, OpenSSL and PostgreSQL are all here"; return; }
    if command -v apt-get >/dev/null; then manager=apt; elif command -v dnf >/dev/null; then manager=dnf; else
        die "missing: $(echo $things). Neither apt nor dnf is here: install a C compiler, Python 3.11 or later with headers and venv, the OpenSSL headers and command, and PostgreSQL with pgbench, then run make setup again."
    fi
    python=$(find_python)
    [ -z "$python" ] || version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    if [ "$(id -u)" != 0 ]; then root=(sudo); fi
    if [ $manager = apt ] && { [ -z "${SLUICEWAY_NO_INSTALL:-}" ] && { [ "$(id -u)" = 0 ] || command -v sudo >/dev/null; }; }; then
        say "missing: $(echo $things); refreshing the package list"
        "${root[@]}" apt-get update -qq </dev/null
    fi
    packages=$(for thing in $things; do "${manager}_packages" "$thing"; done | tr ' ' '\n' | sort -u | tr '\n' ' ')
    if [ -n "${SLUICEWAY_NO_INSTALL:-}" ]; then
        die "missing: $(echo $things). Run: ${root[*]:+sudo }$manager install -y $packages"
    fi
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        die "missing: $(echo $things), and this user is not root and has no sudo. As root, run: $manager install -y $packages"
    fi
    say "installing with $manager: $packages"
    if [ $manager = apt ]; then apt_install "$packages"; else "${root[@]}" dnf install -y -q $packages </dev/null; fi
    things=$(missing)
    [ -z "$things" ] || die "still missing after installing $packages: $(echo $things)"
}

apt_install() {
    # Debian starts a database server on port 5432 when its package is installed; nobody asked us for that
    local veto=/etc/postgresql-common/createcluster.d/sluiceway-setup.conf made=""
    case $1 in *postgresql*) if [ ! -e /etc/postgresql-common/createcluster.conf ]; then made=1; fi ;; esac
    if [ -n "$made" ]; then
        "${root[@]}" mkdir -p "${veto%/*}"
        echo "create_main_cluster = false" | "${root[@]}" tee "$veto" >/dev/null
    fi
    local status=0
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $1 </dev/null >/dev/null || status=$?
    [ -z "$made" ] || "${root[@]}" rm -f "$veto"
    return $status
}

# 2. the virtual environment

make_venv() {
    local python; python=$(find_python)
    if [ -x $venv/bin/python ] && ! suitable $venv/bin/python; then
        say "removing $venv: its Python is too old or gone"
        rm -rf $venv
    fi
    [ -x $venv/bin/python ] || { say "making $venv with $("$python" --version) ($python)"; "$python" -m venv $venv; }
}

# 3. dependencies and extensions

inputs() { cat deploy/setup.sh pyproject.toml setup.py | cksum; }

install_project() {
    local pip=("$venv/bin/python" -m pip --disable-pip-version-check -q)
    if [ -x $venv/bin/sluiceway ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(inputs)" ]; then
        touch "$stamp"
        say "dependencies are as pyproject.toml wants them"
        return
    fi
    say "installing build tools and dependencies from PyPI ($extras)"
    # without build isolation: one Cython for pip's build and for later in-place builds, and no second download
    $venv/bin/python -c 'import tomllib; print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))' \
        >$venv/build-requires.txt
    "${pip[@]}" install -r $venv/build-requires.txt
    PROXY_NO_EXTENSIONS=1 "${pip[@]}" install --no-build-isolation -e ".[$extras]"
    inputs >"$stamp"
}

build() {
    say "building the extensions that changed"
    $venv/bin/python setup.py -q build_ext --inplace --parallel "$(nproc)"
}

install_missing
make_venv
install_project
build
say "ready: $venv/bin/sluiceway"
