# The files that let the system use nbdfuse: the helpers of mount(8) and umount(8), the systemd unit, the
# entries for file managers, the completions.
#
# Sourced by scripts/install-system and scripts/package, in the root folder of the repository.

# system_files: a line for each file: its source, its place in the system, its mode.
system_files() {
  echo 'packaging/mount.fuse.nbdfuse usr/sbin/mount.fuse.nbdfuse 755'
  echo 'packaging/umount.fuse.nbdfuse usr/sbin/umount.fuse.nbdfuse 755'
  echo 'packaging/nbdfuse@.service usr/lib/systemd/system/nbdfuse@.service 644'
  echo 'packaging/open-image usr/lib/nbdfuse/open-image 755'
  echo 'packaging/nbdfuse-open.desktop usr/share/applications/nbdfuse-open.desktop 644'
  echo 'packaging/nbdfuse-unmount.desktop usr/share/applications/nbdfuse-unmount.desktop 644'
}

# completion_files SHARE: a line for each: its shell, its place in the system. bash loads a file by the name of the command
# to complete, so nbdsh has a file too. Those of bash are in SHARE: libnbd's packages have files of these names in
# usr/share.
completion_files() {
  echo "bash $1/bash-completion/completions/nbdfuse"
  echo "bash $1/bash-completion/completions/nbdsh"
  echo 'zsh usr/share/zsh/vendor-completions/_nbdfuse'
  echo 'fish usr/share/fish/vendor_completions.d/nbdfuse.fish'
}

# install_system_files ROOT NODE NBDFUSE SHARE: installs them below ROOT, for the program NBDFUSE and the interpreter NODE.
install_system_files() {
  local root=$1 node=$2 nbdfuse=$3 share=$4 source target mode shell
  while read -r source target mode; do
    say "install -D -m $mode $source $root/$target"
    install -D -m "$mode" "$source" "$root/$target"
    sed -i "s|@NODE@|$node|g; s|@NBDFUSE@|$nbdfuse|g" "$root/$target"
  done < <(system_files)
  while read -r shell target; do
    say "nbdfuse --completion $shell > $root/$target"
    mkdir -p "$(dirname "$root/$target")"
    node bin/nbdfuse --completion "$shell" >"$root/$target"
  done < <(completion_files "$share")
}
