// A real sshd on a port of this machine, for the user of the tests alone, with keys made for it.

import { chmodSync, copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { runProgram } from './run/command.js';
import { freePort } from './run/ports.js';
import { Program } from './run/program.js';
import type { Scope } from './run/scope.js';

/** An sshd that listens. */
export interface Sshd {
  readonly port: number;
  /** Its user's ~/.ssh, with a key and a `known_hosts`. */
  readonly folder: string;
}

/** Starts an sshd that ends with the scope. */
export async function startSshd(scope: Scope): Promise<Sshd> {
  const folder = `${scope.path('home')}/.ssh`;
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of ['host', 'id_ed25519']) {
    await runProgram('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', `${folder}/${name}`);
  }
  copyFileSync(`${folder}/id_ed25519.pub`, `${folder}/authorized_keys`);
  const port = await freePort();
  const hostKey = readFileSync(`${folder}/host.pub`, 'utf8');
  writeFileSync(`${folder}/known_hosts`, `[127.0.0.1]:${port} ${hostKey}`);
  const settings = [
    `Port ${port}`,
    'ListenAddress 127.0.0.1',
    `HostKey ${folder}/host`,
    `AuthorizedKeysFile ${folder}/authorized_keys`,
    'StrictModes no',
    'UsePAM no',
    'PasswordAuthentication no',
    'PermitRootLogin prohibit-password',
    'PidFile none',
    'Subsystem sftp internal-sftp',
  ];
  writeFileSync(`${folder}/sshd_config`, `${settings.join('\n')}\n`);
  if (process.getuid?.() === 0) {
    // The directory of sshd's unprivileged process; on Debian systemd makes it.
    mkdirSync('/run/sshd', { recursive: true });
    chmodSync('/run/sshd', 0o755);
  }
  const sshd = new Program(scope, 'sshd', ['-D', '-e', '-f', `${folder}/sshd_config`]);
  await sshd.says(/Server listening/);
  return { port, folder };
}
