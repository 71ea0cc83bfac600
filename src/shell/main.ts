// nbdsh: an NBD client as a JavaScript shell.
//
// Called by bin/nbdsh. Connects, runs code or the REPL, closes the client, and ends the process whatever the code has
// left open. The exit status is 1 after an error.

import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import { getSystemErrorMap } from 'node:util';
import { NbdClient } from '../client/client.js';
import { ANNOUNCE_AFTER } from '../constants/patience.js';
import { withoutSecrets } from '../nbd/secrets.js';
import { printable } from '../nbd/text.js';
import { HELP, parseShellArguments, type ShellRequest } from './arguments.js';
import { evaluate } from './evaluate.js';
import { converse } from './interactive.js';
import { messageOf } from './message.js';
import { createScope } from './scope.js';

/** The argument of -c that stands for standard input. */
const STDIN = '-';

function versionText(): string {
  const description: unknown = JSON.parse(
    readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
  );
  return `nbdsh ${(description as { version: string }).version}\n`;
}

/** The code to run: the arguments of -c, or a script on standard input. */
async function codeOf(commands: readonly string[]): Promise<readonly string[]> {
  if (commands.length === 0) return [await text(process.stdin)];
  return Promise.all(commands.map((code) => (code === STDIN ? text(process.stdin) : code)));
}

/** Connects; tells a person at a terminal when that takes long. */
async function connect(uri: string): Promise<NbdClient> {
  const announce = (): void => {
    const shown = printable(withoutSecrets(uri));
    if (process.stderr.isTTY) process.stderr.write(`nbdsh: waiting for the server to answer: ${shown}\n`);
  };
  const timer = setTimeout(announce, ANNOUNCE_AFTER);
  try {
    return await NbdClient.connect(uri);
  } finally {
    clearTimeout(timer);
  }
}

async function run({ uri, commands }: ShellRequest): Promise<void> {
  const client = uri === undefined ? undefined : await connect(uri);
  const scope = createScope(client, (line) => process.stdout.write(line));
  try {
    if (commands.length === 0 && process.stdin.isTTY === true) await converse(scope);
    else await evaluate(await codeOf(commands), scope);
  } finally {
    await client?.close();
  }
}

/** Ends the process. The reader of the output may stop early, as in `nbdsh --help | head -1`. */
function endOutput(error: NodeJS.ErrnoException): never {
  if (error.code === 'EPIPE') process.exit(0);
  const [, why] = getSystemErrorMap().get(error.errno ?? 0) ?? ['', error.message];
  process.stderr.write(`nbdsh: cannot write to standard output: ${why}\n`);
  process.exit(1);
}

/** Runs nbdsh and ends the process. @param words the command line without node and script */
export async function main(words: readonly string[]): Promise<never> {
  process.stdout.on('error', endOutput);
  try {
    const request = parseShellArguments(words);
    if (request.kind === 'run') await run(request);
    else process.stdout.write(request.kind === 'help' ? HELP : versionText());
  } catch (error) {
    process.stderr.write(`nbdsh: ${printable(messageOf(error))}\n`);
    process.exit(1);
  }
  // A failed write is reported later than process.exit() would end the process.
  await new Promise((resolve) => process.stdout.write('', resolve));
  process.exit(0);
}
