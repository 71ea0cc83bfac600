// nbdkit with a cache of its own, which it loses when it is killed: writes reach its disk at a FLUSH alone.
//
// Used by lane.ts. It comes back on the same socket or port.

import type { ChildProcess } from 'node:child_process';
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { start, whenEnded, whenWritten } from '../bench/processes.js';

/** nbdkit's words for where it listens, and how. */
export type Listening = readonly string[];

/** See the file's head. */
export class VolatileServer {
  /** What it serves. */
  readonly disk: string;
  readonly #pidfile: string;
  readonly #listening: Listening;
  #child: ChildProcess | undefined;

  constructor(folder: string, name: string, bytes: number, listening: Listening) {
    this.disk = join(folder, `${name}.raw`);
    this.#pidfile = join(folder, `${name}.server`);
    this.#listening = listening;
    writeFileSync(this.disk, '');
    truncateSync(this.disk, bytes);
  }

  async start(): Promise<void> {
    rmSync(this.#pidfile, { force: true });
    const socket = this.#listening[this.#listening.indexOf('-U') + 1];
    if (this.#listening.includes('-U')) rmSync(socket, { force: true });
    const words = [
      'nbdkit',
      '-f',
      '-P',
      this.#pidfile,
      ...this.#listening,
      '--filter=cache',
      'file',
      this.disk,
    ];
    this.#child = start(words);
    await whenWritten(this.#pidfile, this.#child);
  }

  /** Kills it, and with it what it has not flushed. */
  async kill(): Promise<void> {
    if (this.#child === undefined) return;
    this.#child.kill('SIGKILL');
    await whenEnded(this.#child, 5000);
  }

  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }
}

/** Makes certificates for localhost, and returns their folder. */
export function makeCertificates(folder: string): string {
  const path = join(folder, 'pki');
  mkdirSync(path);
  execFileSync('sh', ['-c', CERTIFICATES], { cwd: path, stdio: 'ignore' });
  return path;
}

const CERTIFICATES = `set -e
certtool --generate-privkey --key-type=ecdsa --outfile ca-key.pem
printf 'cn = soak\\nca\\ncert_signing_key\\n' > ca.info
certtool --generate-self-signed --load-privkey ca-key.pem --template ca.info --outfile ca-cert.pem
certtool --generate-privkey --key-type=ecdsa --outfile server-key.pem
printf 'cn = localhost\\ndns_name = localhost\\ntls_www_server\\nsigning_key\\n' > server.info
certtool --generate-certificate --load-ca-certificate ca-cert.pem --load-ca-privkey ca-key.pem \\
  --load-privkey server-key.pem --template server.info --outfile server-cert.pem`;
