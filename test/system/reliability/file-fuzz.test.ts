// Short runs of the differential test (tools/differential) and of the kill runs (tools/kills): random operations on a
// mounted file and the same on a plain one, from one seed each, in the configurations that differ most.

import { resolve } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { runProgram } from '../../support/run/command.js';
import { Program } from '../../support/run/program.js';
import { requirePrograms, requireRoot } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'qemu-nbd', 'certtool', 'unshare', 'xz');
requireRoot();

const ROOT = resolve(import.meta.dirname, '../../..');

beforeAll(async () => {
  const compiler = resolve(ROOT, 'node_modules/.bin/tsc');
  await runProgram('sh', '-c', 'exec "$0" -p "$1"', compiler, resolve(ROOT, 'tools'));
});

it.each([
  'cache=writeback,backend=kernel,connections=4,way=tls,server=volatile,actors=mixed,faults=kills,threads=1',
  'cache=none,backend=kernel,connections=1,way=unix,server=volatile,actors=direct,faults=cuts,threads=3',
  'cache=none,backend=kernel,connections=4,way=tcp,server=minimum-4096,actors=direct,faults=cuts,threads=1',
  'cache=writethrough,backend=kernel,connections=1,way=unix,server=remote,actors=cached,faults=none,threads=1',
  'backend=fuse-native,way=unix,server=qemu-nbd,actors=mixed,faults=cuts',
])(
  'random file operations: a mounted file and a plain one have the same results: %s',
  async (setup) => {
    const scope = createScope();
    const words = ['--operations', '1000', '--length', '1000', '--jobs', '1', '--seed', '7', '--case', setup];
    const entry = resolve(ROOT, 'tools/build/tools/differential/run.js');
    const fuzz = new Program(scope, process.execPath, [entry, ...words]);
    expect(await fuzz.ended, fuzz.stderr).toBe(0);
    expect(fuzz.stdout).toMatch(/ 0 differences/);
  },
  180_000,
);

it.each(['volatile', 'child', 'xz'])(
  'kill runs: mounts with a cache file show no wrong byte after a kill: %s',
  async (disk) => {
    const scope = createScope();
    const entry = resolve(ROOT, 'tools/build/tools/kills/run.js');
    const words = ['--seconds', '1', '--seed', '10', '--disk', disk];
    const kills = new Program(scope, process.execPath, [entry, ...words]);
    expect(await kills.ended, kills.stderr).toBe(0);
    expect(kills.stdout).toMatch(/^6 rounds/m);
  },
  180_000,
);
