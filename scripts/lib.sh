# Shared by the scripts in this folder: brings what is missing on a fresh Debian or Ubuntu, and nothing else.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PATH="${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${PATH:-}"
export HOME="${HOME:-/root}"

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$1" >&2; [ -z "${2:-}" ] || printf ' hint: %s\n' "$2" >&2; exit 1; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; return; fi
    command -v sudo >/dev/null || fail "'$*' needs root" "run this script as root, or install sudo"
    sudo "$@"
}

# need COMMAND=PACKAGE …: installs the packages whose command is not there.
need() {
    local missing=() pair
    for pair in "$@"; do
        [ -e "${pair%%=*}" ] || command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}")
    done
    [ ${#missing[@]} = 0 ] && return
    command -v apt-get >/dev/null || fail "these packages are missing: ${missing[*]}" "install them with this system's package manager"
    say "installing ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# need_space GIGABYTES: fails early and clearly where a build would fail late and cryptically.
need_space() {
    local free
    free=$(df --output=avail -BG "$root" | tail -1 | tr -dc 0-9)
    [ "$free" -ge "$1" ] || fail "$root has $free GB of free disk space, and the build needs $1" "make room, for example with cargo clean"
}

# The toolchain of rust-toolchain.toml with its musl target, through rustup.
need_rust() {
    need curl=curl cc=gcc ld=binutils
    if ! command -v rustup >/dev/null && ! command -v cargo >/dev/null; then
        say "installing Rust for $(id -un), with rustup"
        curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain none >&2
    fi
    command -v rustup >/dev/null || fail "cargo is here, but not rustup" "the exec stage needs rustup's musl target"
    local channel
    channel=$(sed -n 's/^channel = "\(.*\)"/\1/p' "$root/rust-toolchain.toml")
    rustup run "$channel" rustc --version >/dev/null 2>&1 || rustup toolchain install "$channel" --profile minimal >&2
    rustup target list --toolchain "$channel" --installed | grep -q "$(uname -m)-unknown-linux-musl" ||
        rustup target add --toolchain "$channel" "$(uname -m)-unknown-linux-musl" >&2
    [ $# = 0 ] || rustup component add --toolchain "$channel" "$@" >&2
}
