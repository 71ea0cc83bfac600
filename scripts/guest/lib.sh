# Shared by the scripts that start a Linux guest: Debian's kernel and busybox, downloaded once and never installed,
# and the initrd.
#
# Sourced by scripts/guest/run and scripts/guest/make-boot, in the root folder of the repository, after
# scripts/lib.sh. Expects the name of a folder for temporary files in $scratch.

CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/nbdfuse-guest

# kernel_package: the versioned package that the present kernel is in.
kernel_package() { apt-cache depends linux-image-amd64 | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p'; }

# unpack_package NAME: downloads a package and unpacks it into the cache, once.
unpack_package() {
  local folder=$CACHE/$1
  [ ! -d "$folder" ] || return 0
  say "downloading $1"
  rm -rf "${scratch:?}/$1"
  mkdir "$scratch/$1"
  (cd "$scratch/$1" && apt-get download -qq "$1" </dev/null) && dpkg -x "$scratch/$1"/*.deb "$scratch/$1/root" || return 1
  mkdir -p "$CACHE"
  mv "$scratch/$1/root" "$folder" 2>/dev/null || [ -d "$folder" ]
}

# find_kernel: sets kernel to the name of a folder of the cache, and unpacks busybox; or fails, and sets missing.
find_kernel() {
  local package
  kernel=$(kernel_package)
  if [ -z "$kernel" ]; then
    apt-get update -qq </dev/null || true
    kernel=$(kernel_package)
  fi
  missing='apt-get knows no package linux-image-amd64'
  [ -n "$kernel" ] || return 1
  for package in "$kernel" busybox-static; do
    missing="the package $package cannot be downloaded"
    unpack_package "$package" || { apt-get update -qq </dev/null && unpack_package "$package"; } || return 1
  done
}

# make_initrd KERNEL FOLDER INIT MODULE …: makes FOLDER/initrd of busybox, the modules by their order, and the guest's
# first program.
make_initrd() {
  local name number=10 busybox=$CACHE/busybox-static/bin/busybox kernel_folder=$1 folder=$2 init=$3
  local tree=$folder/initrd.d
  shift 3
  mkdir -p "$tree/bin" "$tree/modules"
  cp "$busybox" "$tree/bin/"
  install -m 755 "$init" "$tree/init"
  for name; do
    find "$kernel_folder/lib/modules" -name "$name.ko" -exec cp {} "$tree/modules/$((number++))-$name.ko" \;
  done
  (cd "$tree" && find . | "$busybox" cpio -o -H newc) >"$folder/initrd" 2>/dev/null
}
