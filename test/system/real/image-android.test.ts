// Android sparse images: the bytes that simg2img writes, without unpacking the file first.

import { readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { createScope } from '../../support/cleanup.js';
import { startHttpRangeServer } from '../../support/http-range-server.js';
import { createRaw, hashOf } from '../../support/images.js';
import { runProgram } from '../../support/run/command.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { requirePrograms } from '../../support/run/requires.js';

requirePrograms('img2simg', 'simg2img', 'nbdkit');

it('Android sparse image: has its bytes, as a file and on a web server', async () => {
  const scope = createScope();
  const raw = await createRaw(scope, 9);
  const image = scope.path('system.img');
  await runProgram('img2simg', raw, image);
  const web = await startHttpRangeServer(scope, image, 'system.img');
  for (const server of [image, web.url]) {
    const disk = await mountDisk(scope, { server: [server] });
    expect(disk.stderr).toContain('system.img is raw, as an Android sparse image; serving it with ');
    expect(await hashOf(disk.file)).toBe(await hashOf(raw));
    expect(await disk.stop()).toBe(0);
  }
  const disk = await mountDisk(scope, { server: [image], options: ['--format=raw', '-r'] });
  expect(await hashOf(disk.file)).toBe(await hashOf(image));
});

it('Android sparse image: one that is cut short is refused', async () => {
  const scope = createScope();
  const image = scope.path('system.img');
  await runProgram('img2simg', await createRaw(scope, 3), image);
  writeFileSync(image, readFileSync(image).subarray(0, 1_000_000));
  const program = startNbdfuse(scope, [scope.path('mnt'), image]);
  expect(await program.ended).toBe(1);
  expect(program.stderr).toMatch(
    /^nbdfuse: cannot decode \S+system\.img \(android-sparse\): the Android sparse image ends too early: get it again, and check it with simg2img\n$/,
  );
});
