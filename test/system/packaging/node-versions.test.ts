// The mount path and the library on other versions of Node.js than the one that runs the tests.
//
// The registry's package `node` contains them. The package is installed without fuse-native, as npm leaves it where
// it cannot build it.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('nbdkit', 'fusermount3');

const ROOT = join(import.meta.dirname, '../../..');
const INSTALL = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--prefix'];

/** Each supported line of Node.js, and the newest version of all. */
const VERSIONS = ['20', '22', '24', 'latest'];

let folder: string;
let installed: string;

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = process.env): string {
  try {
    return execFileSync(command, args, {
      cwd: folder,
      env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    throw new Error(`${command} ${args.join(' ')}:\n${stdout}\n${stderr}`);
  }
}

/** Mounts $2 with $1/bin/nbdfuse, writes and reads through the file, and unmounts it, with each cache mode. */
const MOUNT = `
set -euo pipefail
nbdfuse=$1/bin/nbdfuse
mkdir -p "$2/dir"
head -c 8M /dev/urandom >"$2/expected"
for cache in writeback writethrough none; do
  truncate -s 0 "$2/disk"; truncate -s 8M "$2/disk"
  "$nbdfuse" --daemon --cache="$cache" "$2/dir/disk.raw" [ nbdkit file "$2/disk" ]
  dd if="$2/expected" of="$2/dir/disk.raw" bs=64k conv=notrunc,fsync status=none
  cmp "$2/disk" "$2/expected"
  cmp "$2/dir/disk.raw" "$2/expected"
  "$nbdfuse" --status --json "$2/dir" >"$2/status"
  "$nbdfuse" --unmount "$2/dir"
  cmp "$2/disk" "$2/expected"
done
if "$nbdfuse" --fuse-backend=fuse-native "$2/dir/disk.raw" [ nbdkit memory 1M ] 2>"$2/refusal"; then exit 1; fi
grep -q '^nbdfuse: .*fuse-native' "$2/refusal"
node --version
`;

const USE = `
import { NbdClient } from 'nbdfuse';
const client = await NbdClient.connect({ socketActivation: ['nbdkit', 'memory', '1M'] });
await client.write(4096, Buffer.from('text'));
await client.flush();
console.log(String(await client.read(4096, 4)), client.size);
await client.close();
`;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'nbdfuse-node-'));
  const said = run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder, ROOT]);
  run('npm', [...INSTALL, folder, join(folder, said.trim().split('\n').at(-1) ?? '')]);
  installed = join(folder, 'node_modules/nbdfuse');
  rmSync(join(folder, 'node_modules/fuse-native'), { recursive: true, force: true });
  writeFileSync(join(folder, 'use.mjs'), USE);
}, 180_000);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('Node.js versions', () => {
  it.each(VERSIONS)(
    '%s mounts, reads, writes, unmounts, and runs the library, without fuse-native',
    (version) => {
      const place = join(folder, `node-${version}`);
      mkdirSync(place);
      run('npm', [...INSTALL, place, `node@${version}`]);
      const env = { ...process.env, PATH: `${place}/node_modules/node/bin:${process.env.PATH}` };
      const ran = run('bash', ['-c', MOUNT, 'mount', installed, place], env).trim();
      expect(ran).toBe(run(`${place}/node_modules/node/bin/node`, ['--version']).trim());
      if (version !== 'latest') expect(ran).toMatch(new RegExp(`^v${version}\\.`));
      expect(JSON.parse(readFileSync(join(place, 'status'), 'utf8'))).toHaveProperty(
        ['files', 0, 'size'],
        '8388608',
      );
      expect(run('node', ['use.mjs'], env)).toBe('text 1048576n\n');
    },
    240_000,
  );
});
