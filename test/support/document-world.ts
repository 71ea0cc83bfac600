// The environment of the documents' commands, made of local servers: `nbd://host` and `https://example.com`
// are servers of this machine, and a directory holds the images with the names in the documents.
//
// Used by the test that runs the documents. Commands run as written, except for the names of hosts. Small
// scripts in front of the PATH add arguments to programs that would wait for a person: nbdfuse goes into the
// background when it would stay in the foreground, --watch is interrupted after a moment, and the booted
// machine has no screen, and a device by which the boot sector ends it.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { copyFile, mkdir, open, readFile, truncate, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { BOOTED_STATUS, bootSector, TEXT_SECTOR, textSector } from './boot-sector.js';
import { startHttpRangeServer } from './http-range-server.js';
import { makePki } from './run/certificates.js';
import { makeEncrypted, runProgram, runShell } from './run/command.js';
import { createPsk } from './run/images.js';
import { NBDFUSE } from './run/mount.js';
import { Program } from './run/program.js';
import { requireProgram } from './run/requires.js';
import { mountsBelow, type Scope } from './run/scope.js';
import { nbdkitTls, startNbdkit } from './run/servers.js';

const SIZE = 64 * 1024 * 1024;
/** The first sector of the partition with a file system; sector TEXT_SECTOR belongs to the boot sector. */
const PARTITION = 4096;

/** Bytes of an MBR before its partition table. */
const CODE_LENGTH = 446;

/** A file of SIZE zeros. */
async function makeEmpty(path: string): Promise<void> {
  await writeFile(path, '');
  await truncate(path, SIZE);
}

/** A disk with a partition with ext4 in it, which boots and ends at once. */
async function makeDisk(path: string, folder: string): Promise<void> {
  await makeEmpty(path);
  await runShell(`echo '${PARTITION},,L,*' | sfdisk -q "$0"`, path);
  await mkdir(`${folder}/content`);
  await writeFile(`${folder}/content/hello.txt`, 'Hello from inside the image\n');
  const offset = `offset=${PARTITION * 512}`;
  const kib = String((SIZE - PARTITION * 512) / 1024);
  await runProgram('mkfs.ext4', '-q', '-F', '-E', offset, '-d', `${folder}/content`, path, kib);
  const handle = await open(path, 'r+');
  await handle.write(bootSector(), 0, CODE_LENGTH, 0);
  await handle.write(textSector('booted\r\n'), 0, 512, TEXT_SECTOR * 512);
  await handle.close();
}

/** Lines for a script in front of the PATH. */
function shims(): Readonly<Record<string, string>> {
  const node = process.execPath;
  const nbdfuse = `"${node}" "${NBDFUSE}"`;
  const qemu = requireProgram('qemu-system-x86_64');
  const machine = '-accel tcg -display none -no-reboot -device isa-debug-exit,iobase=0xf4,iosize=1';
  return {
    nbdfuse: `case " $* " in
*" --watch "*) timeout -s INT 3 ${nbdfuse} "$@"; [ $? -le 124 ];;
*" --daemon "* | "--list "* | *" --list "* | *" --list-mounts "* | *" --status "* | *" --unmount "* | *" --print-command "* | *" --completion "* | *" --help "* | *" --fuse-help "* | *" --version "*) exec ${nbdfuse} "$@";;
*) exec ${nbdfuse} --daemon "$@";; esac`,
    nbdsh: `exec "${node}" "${dirname(NBDFUSE)}/nbdsh" "$@"`,
    'qemu-system-x86_64': `"${qemu}" ${machine} "$@" </dev/null; [ $? = ${BOOTED_STATUS} ]`,
  };
}

/** See the file's head. */
export class DocumentWorld {
  readonly #scope: Scope;
  readonly #folder: string;
  readonly #hosts: readonly (readonly [RegExp, string])[];

  private constructor(scope: Scope, hosts: readonly (readonly [RegExp, string])[]) {
    this.#scope = scope;
    this.#folder = scope.path('images');
    this.#hosts = hosts;
  }

  /** Makes the images and starts the servers, which end with the scope. */
  static async make(scope: Scope): Promise<DocumentWorld> {
    const [images, exports, bin] = ['images', 'exports', 'bin'].map((name) => scope.path(name));
    for (const folder of [images, exports, bin]) mkdirSync(folder);
    const raw = `${exports}/export`;
    await makeDisk(raw, scope.folder);
    await copyFile(raw, `${exports}/other`);
    await runProgram('qemu-img', 'convert', '-f', 'raw', '-O', 'qcow2', raw, `${images}/disk.qcow2`);
    await runProgram('qemu-img', 'snapshot', '-c', 'before-upgrade', `${images}/disk.qcow2`);
    writeFileSync(`${images}/disk.key`, 'a passphrase');
    await makeEncrypted(
      ...['create', '-q', '-f', 'qcow2', '--object', `secret,id=s,file=${images}/disk.key`],
      ...[
        '-o',
        'encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10',
        `${images}/encrypted.qcow2`,
        '1M',
      ],
    );
    await runShell('xz --keep --block-size=4MiB --stdout "$0" >"$1"', raw, `${images}/disk.img.xz`);
    createPsk(`${images}/keys.psk`);
    await mkdir(`${images}/images`);
    for (const name of ['a.raw', 'b.raw']) await makeEmpty(`${images}/images/${name}`);
    makePki(`${images}/pki`);
    for (const [name, text] of Object.entries(shims())) {
      writeFileSync(`${bin}/${name}`, `#!/bin/sh\n${text}\n`);
      chmodSync(`${bin}/${name}`, 0o755);
    }
    await runShell('cd "$0" && tar -cf machine.ova disk.qcow2 keys.psk', images);
    await runShell('cd "$0/images" && zip -q0 ../disks.zip a.raw b.raw', images);
    await runShell('split -n3 -da3 --numeric-suffixes=1 "$0" "$1"', raw, `${images}/large.img.`);
    const files = ['file', `dir=${exports}`];
    const [plain, x509, psk] = await Promise.all([
      startNbdkit(scope, ...files),
      startNbdkit(scope.inner(), ...nbdkitTls(`${images}/pki`), ...files),
      startNbdkit(scope.inner(), '--tls=require', `--tls-psk=${images}/keys.psk`, ...files),
    ]);
    await copyFile(`${images}/disk.qcow2`, `${images}/disk.img`);
    await copyFile(`${images}/disk.qcow2`, `${images}/image.qcow2`);
    await copyFile(raw, `${images}/image.raw`);
    const [web, other, unpacked] = await Promise.all(
      [
        ['disk.img.xz', 'disk.img.xz'],
        ['disk.qcow2', 'disk.qcow2'],
        ['image.raw', 'disk.img'],
      ].map(([file, name]) => startHttpRangeServer(scope, `${images}/${file}`, name)),
    );
    const over = (socket: string): string => `socket=${socket}`;
    return new DocumentWorld(scope, [
      [/nbd:\/\/host\/?([\w-]*)(?![\w?.])/g, `nbd+unix:///$1?${over(plain.socket)}`],
      [/nbds:\/\/host\/(\w+)\?([^']*)/g, `nbds+unix:///$1?$2&tls-hostname=localhost&${over(x509.socket)}`],
      [/nbds:\/\/alice@host\/(\w+)\?([^']*)/g, `nbds+unix://alice@/$1?$2&${over(psk.socket)}`],
      [/\/etc\/pki\/mine/g, 'pki'],
      [/https:\/\/example\.com(?=\/disk\.qcow2)/g, new URL(other.url).origin],
      [/https:\/\/example\.com(?=\/disk\.img(?!\.))/g, new URL(unpacked.url).origin],
      [/https:\/\/example\.com/g, new URL(web.url).origin],
    ]);
  }

  /** Runs commands in a fresh copy of the folder of images. @throws Error with the output, if one fails */
  async run(scope: Scope, commands: string): Promise<string> {
    const folder = scope.path('here');
    await runProgram('cp', '-r', '--sparse=always', this.#folder, folder);
    await mkdir(`${folder}/dir`);
    const text = this.#hosts.reduce((all, [host, here]) => all.replace(host, here), commands);
    const trace = scope.path('trace');
    const script = `exec 9>"${trace}"; BASH_XTRACEFD=9; PS4='$ '; set -euxo pipefail; cd "${folder}"\n${text}`;
    // That of a normal user on Debian.
    const path = `${this.#scope.path('bin')}:${dirname(process.execPath)}:/usr/local/bin:/usr/bin:/bin`;
    const program = new Program(scope, 'bash', ['-c', script], { env: { PATH: path, HOME: folder } });
    const status = await program.ended;
    for (const mount of await mountsBelow(scope.folder)) await runProgram('umount', mount);
    const said = `${program.stdout}${program.stderr}`;
    if (status === 0) return said;
    throw new Error(`status ${status}: ${await readFile(trace, 'utf8')}\n${said}`);
  }
}
