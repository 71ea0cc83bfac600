// The case of a boot: a Linux guest with Debian's kernel whose root is on an xz image at a web server, emulated by
// qemu in software.

import { mkdirSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Program, runWithin } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';
import { type MountWords, mountWords, PEER, type Side } from '../sides.js';
import { XZ } from './images.js';
import type { LazyCase, LazyField } from './lazy-case.js';
import { byCommand } from './reading.js';
import { takeTurns } from './turns.js';
import { startWeb } from './web.js';

const AWAY = 20;
const PATIENCE_SECONDS = 900;

/** The whole hash: the serial console sends a few characters at a time. */
const BOOTED = /^booted: ([0-9a-f]{64})/m;

/** Of the root folder: this file is compiled to tools/build/tools/bench/lazy. */
const MAKE = fileURLToPath(new URL('../../../../../scripts/guest/make-boot', import.meta.url));

/** A folder with vmlinuz, initrd and root.raw. */
const makeGuest = (scope: Scope, folder: string): Promise<string> => {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  return runWithin(scope, PATIENCE_SECONDS, [MAKE, folder]);
};

/** Seconds from the start of the guest until its work is done, and the hash of what it read. */
async function boot(scope: Scope, guest: string, disk: string): Promise<{ seconds: number; hash: string }> {
  const before = performance.now();
  const words = ['-accel', 'tcg', '-cpu', 'max', '-smp', '2', '-m', '1024', '-nodefaults', '-no-user-config'];
  const program = new Program(scope, 'qemu-system-x86_64', [
    ...words,
    ...['-display', 'none', '-no-reboot', '-serial', 'stdio', '-append', 'console=ttyS0 panic=-1 quiet'],
    ...['-kernel', `${guest}/vmlinuz`, '-initrd', `${guest}/initrd`],
    ...['-drive', `file=${disk},format=raw,if=virtio,readonly=on`],
  ]);
  await program.says(BOOTED, PATIENCE_SECONDS * 1000);
  const seconds = (performance.now() - before) / 1000;
  await program.kill('SIGKILL');
  return { seconds, hash: BOOTED.exec(program.stdout)?.[1] ?? '' };
}

async function measure(outer: Scope, { ours, images, rounds }: LazyField) {
  const guest = await images.file('guest', (path) => makeGuest(outer, path));
  const raw = `${guest}/root.raw`;
  const name = await images.compressed(raw, 'xz', XZ);
  const web = await startWeb(outer, images.folder, AWAY);
  const url = web.url(name);
  const right = (await boot(outer, guest, raw)).hash;
  /** Seconds from the command of the mount until the guest's work is done. */
  const bootFrom = async (scope: Scope, side: Side, words: MountWords): Promise<number> => {
    const mounted = await mountWords(scope, side, words);
    const { seconds, hash } = await boot(scope, guest, mounted.file);
    if (hash !== right) throw new Error(`${side.name} gave wrong bytes`);
    await mounted.unmount();
    return mounted.ready / 1000 + seconds;
  };
  const all = await takeTurns(outer, rounds, [
    {
      name: 'ours',
      play: async (scope) => {
        const words = { server: [url], options: [`--cache-dir=${scope.path('caches')}`] };
        return { first: await bootFrom(scope, ours, words), second: await bootFrom(scope, ours, words) };
      },
    },
    {
      name: 'peer',
      play: async (scope) => ({ boot: await bootFrom(scope, PEER, byCommand(url, 'xz')) }),
    },
    { name: 'raw', play: async (scope) => ({ boot: (await boot(scope, guest, raw)).seconds }) },
  ]);
  const row = (start: 'first' | 'second') => ({
    text: `boot of a Linux guest from an xz image, \`--cache-dir\`, ${start} start`,
    unit: 's' as const,
    ours: all.of('ours', start),
  });
  return [
    { ...row('first'), other: all.of('peer', 'boot'), otherName: PEER.name, bar: { faster: 2 } },
    { ...row('second'), other: all.of('raw', 'boot'), otherName: 'the local raw file', bar: { within: 1.2 } },
  ];
}

export const BOOT_CASE: LazyCase = {
  name: 'lazy-boot',
  text: 'boot of a Linux guest from an xz image on a web server',
  measure,
};
