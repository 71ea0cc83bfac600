// Asks the user for code, line by line: Node's REPL with the shell's names in it.
//
// Called by main.ts where standard input is a terminal.

import { once } from 'node:events';
import { start } from 'node:repl';
import type { ShellScope } from './scope.js';

const PROMPT = 'nbd> ';

function banner(scope: ShellScope): string {
  const connected =
    scope.h === undefined
      ? "Connect with: h = await NbdClient.connect('nbd://HOST/NAME')"
      : 'Connected as h: try h.size, await h.read(0, 512)';
  return `${connected}\nEnd with .exit\n`;
}

/** Resolves when the user has had enough. */
export async function converse(scope: ShellScope): Promise<void> {
  process.stdout.write(banner(scope));
  const server = start({ prompt: PROMPT });
  Object.assign(server.context, scope);
  await once(server, 'exit');
}
