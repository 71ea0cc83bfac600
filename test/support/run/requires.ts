// Finds the programs that tests on real servers need.
//
// Called at the head of a test file or by the helper that starts the program. A missing program is an error
// that names the Debian package to install: a skipped test would look like a passed one.

import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';

/** The Debian package of each program. */
const PACKAGES: Readonly<Record<string, readonly string[]>> = {
  xfsprogs: ['mkfs.xfs'],
  e2fsprogs: ['mkfs.ext4', 'e2fsck', 'debugfs'],
  fdisk: ['fdisk', 'sfdisk'],
  file: ['file'],
  fio: ['fio'],
  fuse3: ['fusermount3'],
  nbdkit: ['nbdkit'],
  'gnutls-bin': ['certtool', 'psktool'],
  'libnbd-bin': ['nbdcopy', 'nbdinfo'],
  'nbd-server': ['nbd-server'],
  'qemu-system-x86': ['qemu-system-x86_64'],
  'qemu-utils': ['qemu-img', 'qemu-io', 'qemu-nbd'],
  'qemu-system-common': ['qemu-storage-daemon'],
  'util-linux': ['setpriv', 'fallocate', 'unshare', 'partx'],
  prometheus: ['prometheus', 'promtool'],
  strace: ['strace'],
  systemd: ['systemd-analyze'],
  'cryptsetup-bin': ['cryptsetup'],
  busybox: ['busybox'],
  'perl-base': ['perl'],
  mount: ['mount', 'umount', 'losetup'],
  'openssh-client': ['ssh', 'ssh-keygen'],
  'openssh-server': ['sshd'],
  'netcat-openbsd': ['nc'],
  bsdutils: ['script'],
  'python3-minimal': ['python3'],
  'xz-utils': ['xz'],
  zstd: ['zstd', 'pzstd'],
  lz4: ['lz4'],
  bzip2: ['bzip2'],
  pbzip2: ['pbzip2'],
  lbzip2: ['lbzip2'],
  unzip: ['unzip'],
};

/** A user's PATH may lack the folders of the system's own programs. */
const FOLDERS = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The absolute path of a program. @throws Error which names the package to install */
export function requireProgram(name: string): string {
  const found = FOLDERS.map((folder) => join(folder, name)).find(isExecutable);
  if (found !== undefined) return found;
  const packageName = Object.keys(PACKAGES).find((key) => PACKAGES[key].includes(name)) ?? name;
  throw new Error(`these tests need ${name}: apt-get install ${packageName}`);
}

/** Checks several programs at once. @throws Error which names the package of the first missing one */
export function requirePrograms(...names: readonly string[]): void {
  for (const name of names) requireProgram(name);
}

/** Some tests mount with mount(2), change users, or open /dev/fuse to them. @throws Error if not root */
export function requireRoot(): void {
  if (process.getuid?.() !== 0) throw new Error('these tests need root: run scripts/test with sudo');
}
