// Starts the web server of web-server.ts.

import { fileURLToPath } from 'node:url';
import { Program } from '../../../test/support/run/program.js';
import type { Scope } from '../../../test/support/run/scope.js';

const PROGRAM = fileURLToPath(new URL('./web-server.js', import.meta.url));

/** A web server that serves the files of a folder. */
export interface Web {
  /** The URL of a file. */
  url(name: string): string;
  /** Ends it, with all connections. */
  stop(): Promise<void>;
}

/** Serves a folder until the scope ends; each response begins so many milliseconds late. */
export async function startWeb(scope: Scope, folder: string, milliseconds: number): Promise<Web> {
  const program = new Program(scope, process.execPath, [PROGRAM, folder, String(milliseconds)]);
  await program.says(/^port \d+$/m);
  const port = /^port (\d+)$/m.exec(program.stdout)?.[1];
  return {
    url: (name) => `http://127.0.0.1:${port}/${name}`,
    stop: async () => void (await program.kill('SIGTERM')),
  };
}
