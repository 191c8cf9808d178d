# shellcheck shell=sh
# Sourced by scripts. need_packages NAME... installs the Debian packages that are
# missing (as root, or through sudo); on other systems it names what is needed and goes on.
need_packages() {
    missing=
    if ! command -v dpkg-query >/dev/null 2>&1; then
        echo "not a Debian system: please install the equivalents of: $*" >&2
        return 0
    fi
    for package in "$@"; do
        state=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
        [ "$state" = "install ok installed" ] || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    echo "installing:$missing" >&2
    as_root=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null 2>&1 || { echo "please install as root:$missing" >&2; return 1; }
        as_root=sudo
    fi
    $as_root apt-get update -q >/dev/null
    # shellcheck disable=SC2086 # words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q -o Dpkg::Use-Pty=0 --no-install-recommends $missing >/dev/null
}

# build FOLDER TARGET...: builds and prints the last line; on failure the last 40 lines, and returns 1.
build() {
    folder=$1
    shift
    cmake --build "$folder" --target "$@" >"$folder/build.log" 2>&1 || {
        tail -n 40 "$folder/build.log" >&2
        return 1
    }
    tail -n 1 "$folder/build.log"
}
