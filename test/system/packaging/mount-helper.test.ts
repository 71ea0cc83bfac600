// mount(8), fstab and the systemd unit, as scripts/install-system installs them.

import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { convertTo, createRaw, hashOf } from '../../support/images.js';
import { runProgram, runShell, tryProgram } from '../../support/run/command.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';
import { processesOf } from '../../support/run/scope.js';
import { startNbdkit } from '../../support/run/servers.js';
import { until } from '../../support/run/until.js';
import { createShPlugin } from '../../support/sh-plugin.js';

requireRoot();
requirePrograms('nbdkit', 'qemu-nbd', 'sfdisk', 'unshare', 'mount', 'umount', 'getfattr');

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

/** Installs the files for the system's folders below a folder of the scope. */
async function install(scope: Scope): Promise<string> {
  const folder = scope.path('root');
  await runProgram('env', `DESTDIR=${folder}`, 'bash', `${ROOT}scripts/install-system`);
  return folder;
}

const HELPERS = ['mount.fuse.nbdfuse', 'umount.fuse.nbdfuse'] as const;

/** In a namespace of its own, /usr/sbin gets the helpers, and /run is empty; `$1` is the scope's folder, `$2` the URI. */
const PRELUDE = `
set -e
# The mounts of other tests are in this namespace, too.
umount -a -i -l -t fuse.nbdfuse
mount --bind /usr/sbin "$1/sbin.own"
mount --bind "$1/sbin" /usr/sbin
mount -t tmpfs tmpfs /run
mkdir "$1/mnt"
`;

/** Runs shell lines in a namespace where mount(8) and umount(8) find the helpers. */
async function withHelper(scope: Scope, script: string, ...words: readonly string[]): Promise<string> {
  const installed = await install(scope);
  for (const name of ['sbin', 'sbin.own']) mkdirSync(scope.path(name));
  for (const name of readdirSync('/usr/sbin')) {
    if (!(HELPERS as readonly string[]).includes(name))
      symlinkSync(scope.path(`sbin.own/${name}`), scope.path(`sbin/${name}`));
  }
  for (const name of HELPERS) cpSync(`${installed}/usr/sbin/${name}`, scope.path(`sbin/${name}`));
  const shell = ['bash', '-c', PRELUDE + script, 'bash', scope.folder, ...words];
  return runProgram('unshare', '-m', '--propagation', 'private', ...shell);
}

describe('mount(8)', () => {
  it('mounts every export of a server with the option all', async () => {
    const scope = createScope();
    mkdirSync(scope.path('images'));
    for (const name of ['a', 'b']) writeFileSync(scope.path('images', name), Buffer.alloc(4096, name));
    const server = await startNbdkit(scope, 'file', `dir=${scope.path('images')}`);
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt" -o all,ro
      ls "$1/mnt"
      head -c 3 "$1/mnt/b"
      umount "$1/mnt"`;
    expect(await withHelper(scope, script, server.uri())).toBe('a\nb\nbbb');
  });

  it('mounts a URI with options of all kinds, and umount(8) unmounts it', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '4M');
    const options = '_netdev,nofail,x-systemd.mount-timeout=5,connections=2,cache=none,uid=65534';
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt" -o ${options}
      stat -c '%s %u' "$1/mnt/nbd"
      getfattr --absolute-names --only-values -n user.nbd.cache "$1/mnt/nbd"; echo
      dd if=/dev/zero of="$1/mnt/nbd" bs=1M count=1 conv=notrunc,fsync status=none
      umount "$1/mnt"
      ls "$1/mnt"`;
    expect(await withHelper(scope, script, server.uri())).toBe('4194304 65534\nnone\n');
    await until('the end of nbdfuse', async () => {
      const all = await processesOf(scope.folder);
      return all.every(({ command }) => !command.includes('bin/nbdfuse'));
    });
  });

  it('mounts with a line of fstab, read-only', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '4M');
    const line = `${server.uri()} ${scope.path('mnt')} fuse.nbdfuse noauto,nofail,ro 0 0\n`;
    writeFileSync(scope.path('fstab'), line);
    const script = `
      mount -T "$1/fstab" "$1/mnt"
      awk -v mnt="$1/mnt" '$2 == mnt { print $3, substr($4, 1, 2) }' /proc/mounts
      stat -c %a "$1/mnt/nbd"
      umount "$1/mnt"`;
    expect(await withHelper(scope, script)).toBe('fuse.nbdfuse ro\n444\n');
  });

  it('mounts all lines of fstab once, also a new name in a directory, and umount(8) finds them', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '4M');
    const image = await createRaw(scope, 1);
    for (const name of ['dir', 'other']) mkdirSync(scope.path(name));
    const lines = [
      `${server.uri()} ${scope.path('dir')} fuse.nbdfuse nofail 0 0`,
      `${image} ${scope.path('other/disk.raw')} fuse.nbdfuse nofail 0 0`,
      `nbd+unix:///?socket=/none ${scope.path('other/none.raw')} fuse.nbdfuse noauto 0 0`,
    ];
    writeFileSync(scope.path('fstab'), `${lines.join('\n')}\n`);
    const script = `
      for i in 1 2; do mount -T "$1/fstab" -a 2>/dev/null; echo $?; grep -c " $1/.* fuse.nbdfuse " /proc/mounts; done
      stat -c %s "$1/dir/nbd" "$1/other/disk.raw"
      mount -T "$1/fstab" "$1/other/none.raw" 2>/dev/null || ls "$1/other"
      umount "$1/dir"; umount "$1/other/disk.raw"; stat -c %s "$1/other/disk.raw"`;
    expect(await withHelper(scope, script)).toBe('0\n2\n0\n2\n4194304\n1048576\ndisk.raw\n0\n');
  });

  it('remounts with other flags, and refuses other options', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '4M');
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt"
      flags() { awk -v mnt="$1/mnt" '$2 == mnt { split($4, flag, ","); print flag[1], flag[4] }' /proc/mounts; }
      mount -o remount,ro "$1/mnt"; flags "$1"
      ! (: >"$1/mnt/nbd") 2>/dev/null
      mount -o remount,rw,noatime "$1/mnt"; flags "$1"
      dd if=/dev/zero of="$1/mnt/nbd" bs=64k count=1 conv=notrunc,fsync status=none
      mount -o remount,allow_other "$1/mnt" 2>&1 || echo $?
      umount "$1/mnt"`;
    expect(await withHelper(scope, script, server.uri())).toBe(
      `ro relatime\nrw noatime\nnbdfuse: ${scope.path('mnt')}: remount cannot change allow_other: unmount, and mount again\n1\n`,
    );
  });

  it('remounts with the options of nbdfuse that the mount and fstab have, and refuses to change them', async () => {
    const scope = createScope();
    const server = await startNbdkit(scope, 'memory', '4M');
    mkdirSync(scope.path('a dir'));
    const options = 'noauto,nofail,x-a=1,comment=b,connections=2,cache=none,uid=65534,umask=077';
    const place = scope.path('a dir').replaceAll(' ', '\\040');
    writeFileSync(scope.path('fstab'), `${server.uri()} ${place} fuse.nbdfuse ${options} 0 0\n`);
    const script = `
      mount -T "$1/fstab" "$1/a dir"
      again() { mount -T "$1/fstab" -o "remount,$2" "$1/a dir" 2>&1 || echo $?; }
      again "$1" ro
      awk '/a.040dir/ { print substr($4, 1, 2) }' /proc/mounts
      for option in connections=2 uid=65534 threads=4 connections=8 uid=1 cache=writeback restart no_such; do
        again "$1" $option
      done
      umount "$1/a dir"`;
    const no = ['threads=4', 'connections=8', 'uid=1', 'cache=writeback', 'restart', 'no_such'].map(
      (option) =>
        `nbdfuse: ${scope.path('a dir')}: remount cannot change ${option}: unmount, and mount again\n1\n`,
    );
    expect(await withHelper(scope, script)).toBe(`ro\n${no.join('')}`);
  });

  it('shows no password in the list of mounts', async () => {
    const scope = createScope();
    const script = `
      sed -i 's|^\\[ -n "$made" . .*|echo "$@"; exit|' /usr/sbin/mount.fuse.nbdfuse
      mount -t fuse.nbdfuse https://user:secret@example.com/disk.img "$1/mnt"
      mount -t fuse.nbdfuse nbd://host/a,b "$1/mnt"`;
    expect(await withHelper(scope, script)).toBe('--daemon\n--daemon -o fsname=nbd://host/a\\,b\n');
  });

  it('mounts a partition of an image with a line of fstab, with an overlay', async () => {
    const scope = createScope();
    const raw = await createRaw(scope, 4);
    await runShell('printf "start=2048, size=2048\n" | sfdisk --quiet --wipe never "$0"', raw);
    const image = await convertTo(scope, raw, 'qcow2', 'disk.qcow2');
    const before = await hashOf(image);
    const line = `${image} ${scope.path('mnt')} fuse.nbdfuse noauto,partition=1,format=qcow2,overlay 0 0\n`;
    writeFileSync(scope.path('fstab'), line);
    const script = `
      mount -T "$1/fstab" "$1/mnt" 2>"$1/said"
      stat -c %s "$1/mnt/nbd"
      head -c 12 "$1/mnt/nbd"; echo
      echo changed | dd of="$1/mnt/nbd" conv=notrunc,fsync status=none
      umount "$1/mnt"`;
    expect(await withHelper(scope, script)).toBe('1048576\nblock 256 of\n');
    expect(await hashOf(image)).toBe(before);
  });

  it('refuses a value of an option that takes none', async () => {
    const scope = createScope();
    const script = `mount -t fuse.nbdfuse nbd://host "$1/mnt" -o ro,restart=1 2>&1 || echo "status $?"`;
    expect(await withHelper(scope, script)).toBe(
      'nbdfuse: option restart takes no value: write restart\nstatus 1\n',
    );
  });

  it('fails with the reason when there is no server', async () => {
    const scope = createScope();
    const script = `mount -t fuse.nbdfuse 'nbd+unix:///?socket=/none' "$1/mnt" 2>&1 || echo "status $?"`;
    expect(await withHelper(scope, script)).toBe(
      'nbdfuse: cannot connect to socket /none: no such file or directory\nstatus 1\n',
    );
  });
});

describe('umount(8)', () => {
  /** A server that takes a second for a flush. */
  const startSlowServer = async (scope: Scope): Promise<string> => {
    const failures = ["'flush '*) sleep 1;;"];
    const { script } = createShPlugin(scope, { size: 4 * 2 ** 20, failures });
    return (await startNbdkit(scope, 'sh', script)).uri();
  };
  const WRITE = 'dd if=/dev/zero of="$1/mnt/nbd" bs=64k count=1 conv=notrunc status=none';
  const ENDED = 'kill -0 "$(cat "$1/pid")" 2>/dev/null && echo runs || echo ended';

  it.each([
    ['an absolute path', 'umount "$1/mnt"'],
    ['a relative path', 'cd "$1"; umount mnt'],
    ['all mounts of the type', 'umount -a -t fuse.nbdfuse'],
    ['fusermount3, which cannot wait', 'fusermount3 -u "$1/mnt"'],
  ])('waits for the server: %s', async (name, command) => {
    const scope = createScope();
    const uri = await startSlowServer(scope);
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt" -o "pidfile=$1/pid"
      ${WRITE}
      ${command}
      ${ENDED}
      mountpoint -q "$1/mnt" || echo unmounted`;
    const waits = !name.startsWith('fusermount3');
    expect(await withHelper(scope, script, uri)).toBe(`${waits ? 'ended' : 'runs'}\nunmounted\n`);
  });

  it('does not wait with --lazy, and unmounts a mount whose nbdfuse is gone', async () => {
    const scope = createScope();
    const uri = await startSlowServer(scope);
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt" -o "pidfile=$1/pid"
      ${WRITE}
      umount -l "$1/mnt"
      ${ENDED}
      mount -t fuse.nbdfuse "$2" "$1/mnt" -o "pidfile=$1/other"
      kill -9 "$(cat "$1/other")"
      umount "$1/mnt"
      mountpoint -q "$1/mnt" || echo unmounted`;
    expect(await withHelper(scope, script, uri)).toBe('runs\nunmounted\n');
  });

  it('says which programs use the mount', async () => {
    const scope = createScope();
    const uri = await startSlowServer(scope);
    const script = `
      mount -t fuse.nbdfuse "$2" "$1/mnt"
      exec 9<"$1/mnt/nbd"
      umount "$1/mnt" 2>&1 || echo $?
      exec 9<&-
      umount "$1/mnt"`;
    expect(await withHelper(scope, script, uri)).toMatch(
      /^nbdfuse: cannot unmount \S*mnt: target is busy; fuser -vm \S*mnt shows which programs use it\n32\n$/,
    );
  });

  it('registers a place once in the table of mount options', async () => {
    const scope = createScope();
    const uri = await startSlowServer(scope);
    const script = `
      for i in 1 2 3; do mount -t fuse.nbdfuse "$2" "$1/mnt"; ${ROOT}bin/nbdfuse --unmount "$1/mnt"; done
      grep -c 'helper=fuse.nbdfuse' /run/mount/utab`;
    expect(await withHelper(scope, script, uri)).toBe('1\n');
  });
});

it('mount(8) says so when nbdfuse is no longer installed', async () => {
  const scope = createScope();
  const script = `
    sed -i "s|${ROOT}bin/nbdfuse|/none/nbdfuse|g" /usr/sbin/mount.fuse.nbdfuse
    mount -t fuse.nbdfuse nbd://host "$1/mnt" 2>&1 || echo $?`;
  expect(await withHelper(scope, script)).toBe(
    'nbdfuse: there is no /none/nbdfuse any more: install nbdfuse again, or remove its helpers: rm /usr/sbin/*mount.fuse.nbdfuse\n1\n',
  );
});

it('install-system: removes what it installed, and the unit reports readiness', async () => {
  const scope = createScope();
  const installed = await install(scope);
  const files = (await runProgram('find', installed, '-type', 'f')).split('\n');
  for (const name of ['nbdfuse', 'nbdsh'])
    expect(files).toContain(`${installed}/usr/local/share/bash-completion/completions/${name}`);
  for (const name of HELPERS) expect(files).toContain(`${installed}/usr/local/share/man/man8/${name}.8.gz`);
  const unit = readFileSync(`${installed}/usr/lib/systemd/system/nbdfuse@.service`, 'utf8');
  expect(unit).toMatch(/^Type=notify\n[^@]*^ExecStart=\/\S*node \/\S*bin\/nbdfuse \$NBDFUSE_OPTIONS /m);
  // npm refuses to link its manual pages over files.
  expect(files.filter((name) => /man\d/.test(name) && !name.endsWith('.gz'))).toEqual([]);
  await runProgram('env', `DESTDIR=${installed}`, 'bash', `${ROOT}scripts/install-system`, '--remove');
  expect(await runProgram('find', installed, '-type', 'f')).toBe('');
});

it('install-system: replaces no completion of another package, and removes its own from where it used to be', async () => {
  const scope = createScope();
  const old = scope.path('root/usr/share/bash-completion/completions/nbdfuse');
  mkdirSync(dirname(old), { recursive: true });
  for (const [text, stays] of [
    ['# nbdfuse of libnbd\n', true],
    ['# bash completion of nbdfuse: an earlier version\n', false],
  ] as const) {
    writeFileSync(old, text);
    await install(scope);
    expect(existsSync(old) && readFileSync(old, 'utf8') === text).toBe(stays);
  }
});

it('install-system: lets systemd and file managers read the files, unless they are for another system', async () => {
  const scope = createScope();
  mkdirSync(scope.path('bin'));
  const called = scope.path('called');
  const tell = `echo "$(basename "$0")" "$@" >>"${called}"`;
  const stubs = { systemctl: tell, 'update-desktop-database': tell, 'dpkg-query': 'exit 1' };
  for (const [name, line] of Object.entries(stubs))
    writeFileSync(scope.path('bin', name), `#!/bin/sh\n${line}\n`, { mode: 0o755 });
  // The files go into a layer over /usr, in a namespace of its own.
  const script = `
    set -e
    mkdir "$1/layer"
    mount -t tmpfs tmpfs "$1/layer"
    mkdir "$1/layer/files" "$1/layer/work"
    mount -t overlay overlay -o "lowerdir=/usr,upperdir=$1/layer/files,workdir=$1/layer/work" /usr
    mount -t tmpfs tmpfs /run
    export PATH="$1/bin:$PATH"
    umount -a -i -l -t fuse.nbdfuse
    bash "$2/scripts/install-system" >"$1/said"
    cat "$1/called"; echo --
    mkdir -p /run/systemd/system
    bash "$2/scripts/install-system" >>"$1/said"
    bash "$2/scripts/install-system" --remove >>"$1/said"
    DESTDIR="$1/layer/root" bash "$2/scripts/install-system" >>"$1/said"
    cat "$1/called"`;
  const shell = ['bash', '-c', script, 'bash', scope.folder, ROOT];
  const desktop = 'update-desktop-database -q /usr/share/applications\n';
  const both = `systemctl daemon-reload\n${desktop}`;
  expect(await runProgram('unshare', '-m', '--propagation', 'private', ...shell)).toBe(
    `${desktop}--\n${desktop}${both}${both}`,
  );
});

it('install-system: replaces the manual pages of earlier versions, and leaves the links of npm', async () => {
  const scope = createScope();
  const pages = scope.path('root/usr/local/share/man/man1');
  mkdirSync(pages, { recursive: true });
  writeFileSync(`${pages}/nbdfuse.1`, 'old');
  symlinkSync('/none', `${pages}/nbdsh.1`);
  await install(scope);
  expect(readdirSync(pages)).toEqual(['nbdfuse.1.gz', 'nbdsh.1', 'nbdsh.1.gz']);
});

it('systemd unit: is valid, restricted, and has no mount namespace of its own', async () => {
  const scope = createScope();
  const unit = `${await install(scope)}/usr/lib/systemd/system/nbdfuse@.service`;
  const own =
    /^(Private(Tmp|Devices|Mounts|Users)|Protect(System|Home|Proc|KernelTunables|KernelLogs|KernelModules|ControlGroups)|(ReadOnly|ReadWrite|Inaccessible|Bind)\w*Paths|RootDirectory|TemporaryFileSystem|MountFlags)=/m;
  expect(readFileSync(unit, 'utf8')).not.toMatch(own);
  if ((await tryProgram('sh', '-c', 'command -v systemd-analyze')).status !== 0) return;
  const { status, stderr } = await tryProgram('systemd-analyze', 'verify', unit);
  expect(`${status} ${stderr}`).toBe('0 ');
  // Ten times the exposure, at most 4.8.
  await runProgram('systemd-analyze', 'security', '--offline=true', '--threshold=48', unit);
});
