# Shared by the scripts: installs missing programs, and runs a command with readable output.
#
# Sourced by the scripts in scripts and scripts/guest, in the root folder of the repository, with
# `set -euo pipefail`. Asks for nothing on standard input.

# A normal user's PATH lacks the programs for root, such as sfdisk and mkfs.ext4.
PATH="$PATH:/usr/sbin:/sbin"

# say TEXT: a line for the user.
say() { printf '== %s\n' "$*"; }

# fail TEXT: the end.
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# as_root COMMAND: runs a command as root, by sudo when we are not.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# has_program NAME: whether there is such a program.
has_program() { command -v "$1" >/dev/null 2>&1; }

# install_programs PROGRAM=PACKAGE …: installs the Debian packages of the programs that are missing.
install_programs() {
  local pair packages=()
  for pair in "$@"; do
    # Several programs may come in one package.
    has_program "${pair%%=*}" || [[ " ${packages[*]} " == *" ${pair#*=} "* ]] || packages+=("${pair#*=}")
  done
  [ "${#packages[@]}" = 0 ] || install_packages "${packages[@]}"
}

# install_packages PACKAGE …: installs Debian packages.
install_packages() {
  has_program apt-get || fail "missing: $*; there is no apt-get: install them another way"
  if [ "$(id -u)" != 0 ] && ! has_program sudo; then
    fail "missing: $*; run as root, or install sudo: apt-get install $*"
  fi
  say "installing $*"
  as_root apt-get update -qq </dev/null || say 'apt-get update failed; trying with the old package lists'
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    "$@" </dev/null >/dev/null || fail "apt-get could not install: $*"
}

# check_node: whether Node is new enough.
check_node() {
  has_program node || fail 'Node.js is missing: install version 20 or newer'
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 20 ? 0 : 1)' ||
    fail "Node.js $(node --version) is too old: install version 20 or newer"
}

# The files that `npm run build` reads beside src. Others in scripts do not count: tests write there, and a build would
# take dist from under them.
readonly BUILD_FILES=(scripts/bundle.mjs package.json tsconfig.json tsconfig.build.json)

# build_program: npm run build, unless nothing has changed since the last time.
build_program() {
  if [ ! -e dist/program/main.js ] || [ -n "$(find src "${BUILD_FILES[@]}" -newer dist/program/main.js -print -quit)" ]; then
    say 'npm run build'
    npm run --silent build </dev/null
  fi
}

# install_modules: npm ci, unless node_modules is as the lock file says. A link leads to the packages of another
# checkout, which npm ci would empty.
install_modules() {
  [ ! -L node_modules ] || return 0
  if [ ! node_modules/.package-lock.json -nt package-lock.json ]; then
    say 'npm ci'
    npm ci --no-audit --no-fund </dev/null
  fi
}

# install_fuse_native: npm leaves out the optional package where neither libfuse 2 nor a compiler is there.
install_fuse_native() {
  [ ! -d node_modules/fuse-native ] || return 0
  install_packages libfuse2
  say 'npm ci'
  npm ci --no-audit --no-fund </dev/null
  [ -d node_modules/fuse-native ] || fail 'npm could not install fuse-native, which the tests need'
}
