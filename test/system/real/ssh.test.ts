// nbd+ssh through a real sshd, on a port of this machine, with keys made for the test.

import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { expect, it } from 'vitest';
import { createScope, type Scope } from '../../support/cleanup.js';
import { openFile } from '../../support/files.js';
import { mountDisk, startNbdfuse } from '../../support/run/mount.js';
import { freePort } from '../../support/run/ports.js';
import { Program } from '../../support/run/program.js';
import { requireProgram, requirePrograms } from '../../support/run/requires.js';
import { startNbdkit } from '../../support/run/servers.js';
import { type Sshd, startSshd } from '../../support/sshd.js';

requirePrograms('nbdkit', 'ssh', 'sshd', 'ssh-keygen', 'nc');

/**
 * Starts sshd; returns its port, its user's ~/.ssh, and the environment in which `ssh` uses that directory.
 */
async function startKnownSshd(scope: Scope): Promise<Sshd & { env: NodeJS.ProcessEnv }> {
  const { port, folder } = await startSshd(scope);
  const [config, bin] = [`${folder}/config`, scope.path('bin')];
  const files = `IdentityFile ${folder}/id_ed25519\nUserKnownHostsFile ${folder}/known_hosts\n`;
  writeFileSync(config, `${files}IdentitiesOnly yes\n`);
  mkdirSync(bin);
  writeFileSync(`${bin}/ssh`, `#!/bin/sh\nexec '${requireProgram('ssh')}' -F '${config}' "$@"\n`);
  chmodSync(`${bin}/ssh`, 0o755);
  return { port, folder, env: { PATH: `${bin}:${process.env.PATH}` } };
}

it('ssh: mounts the export at a Unix socket and at a port of the other machine', async () => {
  const scope = createScope();
  const { port, env } = await startKnownSshd(scope);
  const where = `nbd+ssh://${userInfo().username}@127.0.0.1:${port}`;
  const server = await startNbdkit(scope, 'memory', '4M');
  const uri = `${where}/?socket=${server.socket}`;
  const bytes = Buffer.from(Array.from({ length: 500_000 }, (_, i) => (i * 7) % 251));
  const disk = await mountDisk(scope, { server: [uri], options: ['-C', '2'], program: { env } });
  const file = await openFile(scope, disk.file, 'r+');
  await file.write(bytes, 0, bytes.length, 12_345);
  await file.sync();
  await file.close();
  expect(await disk.stop()).toBe(0);

  const tcp = await freePort();
  const pidfile = scope.path('tcp.pid');
  const args = ['-f', '-i', '127.0.0.1', '-p', String(tcp), '-P', pidfile, 'memory', '3M'];
  await new Program(scope, 'nbdkit', args).fills(pidfile);
  const list = startNbdfuse(scope, ['--list', '--json', `${where}/?nbd-port=${tcp}`], { program: { env } });
  expect(await list.ended).toBe(0);
  expect(list.stdout).toContain(String(3 * 1024 * 1024));

  const again = await mountDisk(scope, { server: [uri], name: 'again', program: { env } });
  const reader = await openFile(scope, again.file, 'r');
  const { buffer } = await reader.read(Buffer.alloc(bytes.length), 0, bytes.length, 12_345);
  expect(buffer.equals(bytes)).toBe(true);
  await reader.close();
  expect(await again.stop()).toBe(0);
});

it('ssh: an unknown host key and a closed port give one line with the message of ssh', async () => {
  const scope = createScope();
  const { port, folder, env } = await startKnownSshd(scope);
  const where = `nbd+ssh://${userInfo().username}@127.0.0.1:${port}`;
  const mountpoint = scope.path('mnt');
  mkdirSync(mountpoint);
  const nothing = startNbdfuse(scope, [mountpoint, `${where}/?socket=/none`], { program: { env } });
  expect(await nothing.ended).toBe(1);
  expect(nothing.stderr).toMatch(/^nbdfuse: ssh exited with status 1: nc: [^\n]*\n/m);
  writeFileSync(`${folder}/known_hosts`, '');
  const stranger = startNbdfuse(scope, [mountpoint, `${where}/`], { program: { env } });
  expect(await stranger.ended).toBe(1);
  expect(stranger.stderr).toMatch(/^nbdfuse: ssh exited with status 255: .*[Hh]ost key verification failed/m);
});
